"""Writes files of lines."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from neva.ledger import layout
from neva.store.base import Store

_LINES_AT_ONCE = 1024


def put_lines(store: Store, key: str, lines: Iterable[bytes]) -> str:
    """Write a file of lines in constant memory; returns its SHA-256.

    Nothing is written when `lines` raises.
    """
    digest = hashlib.sha256()
    with store.open_write(key) as file:
        for some in _chunks(iter(lines)):
            digest.update(some)
            file.write(some)
    return digest.hexdigest()


def put_rejected(store: Store, lines: Callable[[], Iterable[bytes]]) -> str:
    """Write the rows that a manifest says are refused; returns their SHA-256, which names the file.

    Args:
        lines: called twice, for the same lines.
    """
    digest = hashlib.sha256()
    for some in _chunks(iter(lines())):
        digest.update(some)
    return put_lines(store, layout.rejected(digest.hexdigest()), lines())


def _chunks(lines: Iterator[bytes]) -> Iterator[bytes]:
    while some := list(islice(lines, _LINES_AT_ONCE)):
        yield b"\n".join(some) + b"\n"
