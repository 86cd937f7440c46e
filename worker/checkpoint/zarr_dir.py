"""Weights as zarr (version 2) arrays, one directory a tensor: `.zarray` and chunk files.

megatron-core writes them without compressor and filters, bfloat16 under that name or as two
opaque bytes. Chunks at the end of an axis are stored whole, their padding is not read.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import orjson
import torch

from neva.archive import Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.stored import StoredTensor, Tile, TiledTensor

_HEADER = ".zarray"
_DTYPES = {
    "<f4": torch.float32,
    "<f2": torch.float16,
    "<f8": torch.float64,
    "bfloat16": torch.bfloat16,
    "<V2": torch.bfloat16,
    "|V2": torch.bfloat16,
    "|u1": torch.uint8,
    "<i4": torch.int32,
    "<i8": torch.int64,
}


def read_zarr(files: Mapping[str, Segment], where: str) -> dict[str, TiledTensor]:
    """Whole tensors by name; `files` are those of the `model_weights/` directory.

    Raises:
        ConfigError: INVALID_CHECKPOINT, naming the tensor and what is wrong with it.
    """
    tensors: dict[str, TiledTensor] = {}
    for path in sorted(files):
        name, _, file = path.rpartition("/")
        if file != _HEADER or "_extra_state" in name:
            continue
        try:
            tensors[name] = _tensor(name, orjson.loads(files[path].read()), files)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"{where}/{path} can't be used: {type(error).__name__}: {error}",
                reason=Reason.INVALID_CHECKPOINT,
            ) from error
    return tensors


def _tensor(name: str, header: dict[str, Any], files: Mapping[str, Segment]) -> TiledTensor:
    for key, wanted in (("zarr_format", 2), ("compressor", None), ("filters", None)):
        if header.get(key) != wanted:
            raise ValueError(f"{key} is {header.get(key)!r}, only {wanted!r} can be read")
    if header.get("order", "C") != "C":
        raise ValueError("order is not 'C'")
    dtype = _DTYPES.get(header["dtype"])
    if dtype is None:
        raise ValueError(f"dtype {header['dtype']!r} is not known")
    shape, chunk = tuple(header["shape"]), tuple(header["chunks"])
    if len(shape) != len(chunk) or min((*shape, *chunk), default=1) < 1:
        raise ValueError(f"chunks {chunk} of shape {shape}")
    separator = header.get("dimension_separator", ".")
    tiles = tuple(_tiles(name, shape, chunk, separator, dtype, files))
    return TiledTensor(shape, dtype, tiles, name)


def _tiles(
    name: str,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    separator: str,
    dtype: torch.dtype,
    files: Mapping[str, Segment],
) -> Iterator[Tile]:
    counts = [-(-size // step) for size, step in zip(shape, chunk, strict=True)]
    for place in itertools.product(*map(range, counts)):
        file = f"{name}/{separator.join(map(str, place)) or '0'}"
        if file not in files:
            raise ValueError(f"the chunk {file} is missing")
        if files[file].size_bytes != prod(chunk) * dtype.itemsize:
            raise ValueError(f"the chunk {file} has {files[file].size_bytes} bytes")
        start = tuple(i * step for i, step in zip(place, chunk, strict=True))
        inside = tuple(min(c, s - a) for c, s, a in zip(chunk, shape, start, strict=True))
        source = StoredTensor.contiguous(files[file], dtype, chunk)
        yield Tile(start, source, (0,) * len(shape), inside)
