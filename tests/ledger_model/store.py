"""A store whose every request waits for the scheduler, and whose listings may be stale."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from neva.store import ObjectInfo, StoreUnavailable
from tests.fakes.memory_store import MemoryStore
from tests.ledger_model.scheduler import Scheduler


class ModelStore(MemoryStore):
    """Reads see what was put at once; listings lack what was put last while `num_hidden` says so.

    Attributes:
        num_hidden: how many of the keys that were written last no listing shows.
        about_to_put: told of key and data when a process asks for a put, before anything happens.
        was_put: told of key, data and what lay there, when a put happened.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._by_age: list[str] = []
        self.num_hidden = 0
        self.about_to_put: Callable[[str], None] = lambda key: None
        self.was_put: Callable[[str, bytes, bytes | None], None] = lambda key, data, old: None

    def _ask(self, verb: str, key: str, effect: Callable[[], Any]) -> Any:
        def error() -> Exception:
            return StoreUnavailable(f"no answer: {verb} {key}")

        return self._scheduler.request(verb, key, effect, error)

    def get_or_none(self, key: str) -> bytes | None:
        return self._ask("get", key, lambda: self.objects.get(key))  # type: ignore[no-any-return]

    @contextmanager
    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> Iterator[BinaryIO]:
        data = self.get(key)[offset:]
        yield io.BytesIO(data if num_bytes is None else data[:num_bytes])

    def head(self, key: str) -> ObjectInfo | None:
        return self._ask("head", key, lambda: self._info(key))  # type: ignore[no-any-return]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        def effect() -> str:
            old = self.objects.get(key)
            etag = super(ModelStore, self).put(key, data, if_absent=if_absent)
            if key in self._by_age:
                self._by_age.remove(key)
            self._by_age.append(key)
            self.was_put(key, data, old)
            return etag

        self.about_to_put(key)
        return self._ask("put", key, effect)  # type: ignore[no-any-return]

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def delete(self, key: str) -> None:
        self._ask("delete", key, lambda: self.objects.pop(key, None))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        def effect() -> list[ObjectInfo | None]:
            hidden = set(self._by_age[len(self._by_age) - self.num_hidden :])
            keys = sorted(self.objects.keys() - hidden, key=str.encode)
            shown = [key for key in keys if key.startswith(prefix) and key > start_after]
            return [self._info(key) for key in shown]

        yield from self._ask("list", prefix, effect)

    def _info(self, key: str) -> ObjectInfo | None:
        data = self.objects.get(key)
        return None if data is None else ObjectInfo(key, len(data), sha256(data).hexdigest())
