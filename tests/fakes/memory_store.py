"""A `Store` in memory, with a count of its writes and a way to make one fail."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from neva.store.base import AlreadyExists, NotFound, ObjectInfo, check_key, check_prefix


class MemoryStore:
    """Keeps objects in a dictionary.

    Attributes:
        objects: content by key.
        before_put: called with the key before every write; raise there to break a write.
    """

    def __init__(self, base_uri: str = "file:///memory/run/") -> None:
        self._base_uri = base_uri
        self.objects: dict[str, bytes] = {}
        self.before_put: Callable[[str], None] = lambda key: None

    @property
    def base_uri(self) -> str:
        return self._base_uri

    def get(self, key: str) -> bytes:
        data = self.get_or_none(key)
        if data is None:
            raise NotFound(f"{self.uri_of(key)} does not exist")
        return data

    def get_or_none(self, key: str) -> bytes | None:
        return self.objects.get(check_key(key))

    @contextmanager
    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> Iterator[BinaryIO]:
        data = self.get(key)[offset:]
        yield io.BytesIO(data if num_bytes is None else data[:num_bytes])

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.before_put(check_key(key))
        if if_absent and key in self.objects:
            raise AlreadyExists(f"{self.uri_of(key)} exists")
        self.objects[key] = data
        return hashlib.sha256(data).hexdigest()

    def put_file(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    @contextmanager
    def open_write(self, key: str) -> Iterator[io.BytesIO]:
        stream = io.BytesIO()
        yield stream
        self.put(key, stream.getvalue())

    def present(self, keys: Sequence[str]) -> list[bool]:
        return [key in self.objects for key in keys]

    def head(self, key: str) -> ObjectInfo | None:
        data = self.get_or_none(key)
        if data is None:
            return None
        return ObjectInfo(key, len(data), hashlib.sha256(data).hexdigest())

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        for key in sorted(self.objects, key=str.encode):
            if key.startswith(prefix) and key > start_after:
                info = self.head(key)
                if info is not None:
                    yield info

    def download(self, key: str, path: Path) -> None:
        path.write_bytes(self.get(key))

    def local_path(self, key: str) -> Path | None:
        return None

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def now_s(self) -> float | None:
        return None

    def tidy(self) -> None:
        pass

    def uri_of(self, key: str) -> str:
        return self._base_uri + key
