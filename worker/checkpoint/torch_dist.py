"""Weights in torch's distributed format: `.metadata` and `__{rank}_{n}.distcp` files.

`.metadata` is a pickle. It is read by an unpickler that makes inert records of whatever classes
of checkpointing it names and refuses all others, so nothing of it is executed. The records'
meaning is that of torch.distributed.checkpoint (Metadata, FileSystemReader) in torch 2.x: for each
tensor its size and chunks, for each (name, chunk offsets) a stretch of a file, which is a
torch.save of the chunk.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from neva.archive import Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.stored import StoredTensor, Tile, TiledTensor
from worker.checkpoint.torch_file import read_index

METADATA = ".metadata"


class _Record:
    """Stands for any class that the metadata names: holds the state, has no behaviour."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        """Arguments are of no use here."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def get(self, name: str) -> Any:
        if not isinstance(self.state, Mapping) or name not in self.state:
            raise ValueError(f"an entry has no {name!r}")
        return self.state[name]


class _TensorEntry(_Record):
    """TensorStorageMetadata."""


# What writers put there: torch's own classes, its plans, megatron-core's additions, paths.
_RECORD_MODULES = re.compile(
    r"(torch\.distributed\.(checkpoint|_shard)|megatron\.core\.dist_checkpointing|pathlib)(\.|$)"
)


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if _RECORD_MODULES.match(module):
            return _TensorEntry if name == "TensorStorageMetadata" else _Record
        match module, name:
            case "torch", "Size":
                return tuple
            case "torch.serialization", "_get_layout":
                return _Record
            case "collections", "OrderedDict":
                return dict
            case "builtins", "set" | "list" | "dict" | "tuple":
                return {"set": set, "list": list, "dict": dict, "tuple": tuple}[name]
            case "torch", _ if isinstance(found := getattr(torch, name, None), torch.dtype):
                return found
        raise pickle.UnpicklingError(f"it names {module}.{name}, which has no business there")


def read_torch_dist(files: Mapping[str, Segment], where: str) -> dict[str, TiledTensor]:
    """Whole tensors by name.

    Args:
        files: of the `model_weights/` directory, by their names in it.
        where: that directory, for messages.

    Raises:
        ConfigError: INVALID_CHECKPOINT, naming what is wrong.
    """
    if METADATA not in files:
        raise _invalid(f"{where} has no {METADATA}")
    try:
        metadata = _InertUnpickler(io.BytesIO(files[METADATA].read())).load()
        entries = metadata.get("state_dict_metadata")
        stored = {
            (index.get("fqn"), tuple(index.get("offset"))): info
            for index, info in metadata.get("storage_data").items()
            if index.state.get("offset") is not None  # not for byte buffers
        }
        return {
            name: _tensor(name, entry, stored, files, where)
            for name, entry in entries.items()
            if isinstance(entry, _TensorEntry) and "_extra_state" not in name
        }
    except ConfigError:
        raise
    # An unpickler raises whatever damaged bytes lead to.
    except Exception as error:
        raise _invalid(f"{where}/{METADATA} can't be read: {error}") from error


def _tensor(
    name: str,
    entry: _TensorEntry,
    stored: Mapping[tuple[str, tuple[int, ...]], _Record],
    files: Mapping[str, Segment],
    where: str,
) -> TiledTensor:
    dtype = entry.get("properties").state[0]
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f"{name} has no type")
    tiles = tuple(_tiles(name, entry, stored, files, dtype, where))
    return TiledTensor(tuple(entry.get("size")), dtype, tiles, name)


def _tiles(
    name: str,
    entry: _TensorEntry,
    stored: Mapping[tuple[str, tuple[int, ...]], _Record],
    files: Mapping[str, Segment],
    dtype: torch.dtype,
    where: str,
) -> Iterator[Tile]:
    for chunk in entry.get("chunks"):
        start, shape = tuple(chunk.get("offsets")), tuple(chunk.get("sizes"))
        info = stored.get((name, start))
        if info is None:
            raise ValueError(f"{name} has no data at {start}")
        if info.state.get("transform_descriptors"):
            raise ValueError(f"{name} is stored through a transformation (compressed?)")
        file = str(info.get("relative_path"))
        if file not in files:
            raise _invalid(f"{where} has no {file}, which should hold {name}")
        try:
            segment = files[file].part(int(info.get("offset")), int(info.get("length")))
        except ValueError as error:
            raise _invalid(f"{where}/{file} is cut off: {name} at {error}") from error
        tensor = read_index(segment, f"{where}/{file}, {name}")
        if not isinstance(tensor, StoredTensor) or (tensor.shape, tensor.dtype) != (shape, dtype):
            raise _invalid(f"{where}/{file} holds something else than {name}, {dtype} {shape}")
        yield Tile(start, tensor, (0,) * len(shape), shape)


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)
