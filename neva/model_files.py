"""The model's directory as an object store sees it: its digest, and its files on this machine.

The controller reads the small JSON files only; a worker needs everything. Both name the model by
the same digest, so a model replaced under a running job is noticed before it answers a row.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store.base import BucketNotFound, ObjectInfo, Store

# Read by neva.model_profile and neva.tokens; a model's other JSON files are small, too.
_SMALL_SUFFIXES = (".json", ".jinja", ".txt", ".model")
_COMPLETE = ".complete"


def list_model(store: Store) -> list[ObjectInfo]:
    """The files at the top of the model directory.

    Raises:
        ConfigError: there are none.
    """
    try:
        files = [item for item in store.list() if not item.key.startswith(".")]
    except BucketNotFound as error:
        raise ConfigError(error.message, reason=Reason.INVALID_CHECKPOINT) from error
    files = [item for item in files if "/" not in item.key]
    if not files:
        raise ConfigError(
            f"{store.base_uri}: no model there; expected a Hugging Face LLaVA directory with "
            "config.json, tokenizer.json and *.safetensors",
            reason=Reason.INVALID_CHECKPOINT,
        )
    return files


def model_digest(files: list[ObjectInfo]) -> str:
    """Digest of names, sizes and contents (by etag) of a model's files."""
    digest = hashlib.sha256()
    for item in files:
        digest.update(f"{item.key}\0{item.size_bytes}\0{item.etag}\n".encode())
    return digest.hexdigest()


@contextmanager
def small_model_files(store: Store, files: list[ObjectInfo]) -> Iterator[Path]:
    """A directory with the model's configuration and tokenizer, without its weights."""
    base = store.local_path("config.json")
    if base is not None:
        yield base.parent
        return
    with tempfile.TemporaryDirectory(prefix="neva-model-") as folder:
        for item in files:
            if item.key.endswith(_SMALL_SUFFIXES):
                store.download(item.key, Path(folder) / item.key)
        yield Path(folder)


def fetch_model(store: Store, files: list[ObjectInfo], digest: str, cache_dir: Path) -> Path:
    """The model's whole directory on this machine, downloaded unless it is there already."""
    local = store.local_path(files[0].key)
    if local is not None:
        return local.parent
    folder = cache_dir / "models" / digest[:32]
    if not (folder / _COMPLETE).exists():
        folder.mkdir(parents=True, exist_ok=True)
        for item in files:
            # A download appears whole, so that two workers on one disk can't hurt each other.
            store.download(item.key, folder / item.key)
        (folder / _COMPLETE).touch()
    return folder
