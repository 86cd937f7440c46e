"""A job's model as object stores see it: its parts, their digest, their files on this machine.

The controller reads the small files only, a worker needs everything. Both name the model by the
same digest, so a model replaced under a running job is noticed before it answers a row. A .nemo
file that is a plain tar is never unpacked: of a remote one the controller reads a few stretches.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from neva.archive import is_compressed, small_members, unpack
from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.nemo_config import CONFIG_FILE
from neva.reasons import Reason
from neva.spec_model import Model
from neva.store import BucketNotFound, ObjectInfo, Store, open_object, open_store

# Read by profiles and tokenizers; a model's other files of these kinds are small, too.
_SMALL_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".yaml")
_LARGEST_SMALL_BYTES = 64 << 20
_READ_AHEAD_BYTES = 1 << 20
_COMPLETE = ".complete"


@dataclass(frozen=True, slots=True)
class _Part:
    """One directory, or one .nemo file (then `files` is that alone)."""

    store: Store
    files: tuple[ObjectInfo, ...]
    is_file: bool

    @property
    def digest(self) -> str:
        """Of names, sizes and contents (by etag)."""
        digest = hashlib.sha256()
        for item in self.files:
            digest.update(f"{item.key}\0{item.size_bytes}\0{item.etag}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ModelParts:
    """The checkpoint, and for NeMo checkpoints perhaps a base model and a vision tower."""

    model: _Part
    base: _Part | None
    vision: _Part | None

    @property
    def digest(self) -> str:
        """Of all parts; of a checkpoint alone its own."""
        parts = [part for part in (self.model, self.base, self.vision) if part is not None]
        if len(parts) == 1:
            return self.model.digest
        digests = ["-" if p is None else p.digest for p in (self.model, self.base, self.vision)]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def find_model(model: Model) -> ModelParts:
    """List all parts of a job's model.

    Raises:
        ConfigError: INVALID_CHECKPOINT, one of them is not there.
    """
    return ModelParts(
        _find(model.uri),
        None if model.base_model is None else _find(model.base_model),
        None if model.vision_encoder is None else _find(model.vision_encoder),
    )


@contextmanager
def small_model_files(parts: ModelParts) -> Iterator[LocalModel]:
    """The model on this machine with its configuration and tokenizer, if need be without weights.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a .nemo file that is no tar, or no safe one.
    """
    with tempfile.TemporaryDirectory(prefix="neva-model-") as folder:
        yield LocalModel(
            _small_files(parts.model, Path(folder) / "model"),
            None if parts.base is None else _small_files(parts.base, Path(folder) / "base"),
            None if parts.vision is None else _small_files(parts.vision, Path(folder) / "vision"),
        )


def fetch_model(parts: ModelParts, cache_dir: Path) -> LocalModel:
    """The whole model on this machine: downloaded, and unpacked where it is compressed.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a .nemo file that is no tar, or no safe one.
    """
    return LocalModel(
        _fetch(parts.model, cache_dir),
        None if parts.base is None else _fetch(parts.base, cache_dir),
        None if parts.vision is None else _fetch(parts.vision, cache_dir),
    )


def _find(uri: str) -> _Part:
    if uri.endswith(".nemo"):
        store, key = open_object(uri)
        info = store.head(key)
        if info is not None:
            return _Part(store, (info,), is_file=True)
    store = open_store(uri)
    try:
        files = list(store.list())
    except BucketNotFound as error:
        raise ConfigError(error.message, reason=Reason.INVALID_CHECKPOINT) from error
    top = [item for item in files if "/" not in item.key and not item.key.startswith(".")]
    if not top:
        raise ConfigError(
            f"{store.base_uri}: no model there; expected a .nemo file, an unpacked one, or a "
            "Hugging Face directory with config.json and *.safetensors",
            reason=Reason.INVALID_CHECKPOINT,
        )
    # NeMo keeps weights in folders and calls one file `.metadata`.
    is_nemo = any(item.key == CONFIG_FILE for item in top)
    return _Part(store, tuple(files if is_nemo else top), is_file=False)


def _local(part: _Part) -> Path | None:
    """Where the part lies on this machine already."""
    key = part.files[0].key
    path = part.store.local_path(key)
    if path is None or part.is_file:
        return path
    return path.parents[key.count("/")]


def _small_files(part: _Part, folder: Path) -> Path:
    local = _local(part)
    if local is not None and not (part.is_file and is_compressed(local)):
        return local
    folder.mkdir()
    if part.is_file:
        [item] = part.files
        remote = _RemoteFile(part.store, item)
        with io.BufferedReader(remote, _READ_AHEAD_BYTES) as stream:
            for name, content in small_members(stream, item.key, _LARGEST_SMALL_BYTES):
                (folder / name).write_bytes(content)
        return folder
    for item in part.files:
        if "/" not in item.key and item.key.endswith(_SMALL_SUFFIXES):
            part.store.download(item.key, folder / item.key)
    return folder


def _fetch(part: _Part, cache_dir: Path) -> Path:
    local = _local(part)
    if local is not None and not (part.is_file and is_compressed(local)):
        return local  # without its digest, for which every byte would have to be read
    folder = cache_dir / "models" / part.digest[:32]
    if local is None:
        local = _download(part, folder)
    return unpack(local, folder / "unpacked") if part.is_file and is_compressed(local) else local


def _download(part: _Part, folder: Path) -> Path:
    """The part in this folder, unless it is there from before."""
    if not (folder / _COMPLETE).exists():
        for item in part.files:
            # A download appears whole, so that two workers on one disk can't hurt each other.
            (folder / item.key).parent.mkdir(parents=True, exist_ok=True)
            part.store.download(item.key, folder / item.key)
        (folder / _COMPLETE).touch()
    return folder / part.files[0].key if part.is_file else folder


class _RemoteFile(io.RawIOBase):
    """An object as a seekable file; every read is one ranged request."""

    def __init__(self, store: Store, item: ObjectInfo) -> None:
        super().__init__()
        self._store = store
        self._item = item
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._item.size_bytes)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = cast(memoryview, memoryview(buffer))
        num_bytes = min(len(view), max(0, self._item.size_bytes - self._position))
        if num_bytes == 0:
            return 0
        with self._store.open_read(
            self._item.key, offset=self._position, num_bytes=num_bytes
        ) as stream:
            data = stream.read()
        view[: len(data)] = data
        self._position += len(data)
        return len(data)
