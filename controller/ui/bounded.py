"""A store of which no object is taken into memory whole that is larger than a page needs.

The page shows runs that others made, and who writes below an output decides how large files are.
"""

from __future__ import annotations

from typing import cast

from neva.errors import NevaError
from neva.ledger import layout
from neva.reasons import Reason
from neva.store.base import NotFound, Store

MOST_BYTES = 16 << 20
_MOST_MANIFEST_BYTES = 64 << 20  # of a quarter of a million shards


class TooLarge(NevaError):
    """The object is there, and is not read."""

    reason = Reason.ROW_TOO_LARGE


def bounded(store: Store) -> Store:
    """The same store; `get` and `get_or_none` raise TooLarge. `open_read` streams, as ever."""
    return cast(Store, _Bounded(store))


class _Bounded:
    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, key: str) -> bytes:
        most = _MOST_MANIFEST_BYTES if key == layout.MANIFEST else MOST_BYTES
        with self._store.open_read(key) as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            where = self._store.uri_of(key)
            raise TooLarge(f"{where} has more than {most >> 20} MiB, the most that is read here")
        return data

    def get_or_none(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFound:
            return None
