"""Tensors where they lie in files, and tensors put together from pieces of those.

Every layout of a checkpoint ends up as `TiledTensor`s: a whole (canonical) tensor and the tiles of
it that lie in some file. Splitting by ranks, stacking of layers, fused projections and chunked
storage are all only ways of tiling, so that reading a rank's slice touches that slice's bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from neva.archive import Segment

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file, not read yet.

    Attributes:
        storage: the bytes of its storage, little endian.
        strides, offset: in elements, within the storage.
    """

    storage: Segment
    dtype: torch.dtype
    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def contiguous(cls, storage: Segment, dtype: torch.dtype, shape: Shape) -> StoredTensor:
        """Row-major from the segment's start. Raises ValueError if the segment is too short."""
        if prod(shape) * dtype.itemsize > storage.size_bytes:
            raise ValueError(f"{storage.size_bytes} bytes can't hold {shape} of {dtype}")
        strides = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return cls(storage, dtype, shape, strides)

    def at(self, index: int) -> StoredTensor:
        """The sub-tensor at `index` of the first axis."""
        offset = self.offset + index * self.strides[0]
        return StoredTensor(self.storage, self.dtype, self.shape[1:], self.strides[1:], offset)

    def map(self) -> torch.Tensor:
        """The tensor over mapped memory: pages are read when touched. Not to be written to."""
        num_items = self.storage.size_bytes // self.dtype.itemsize
        if not num_items or not prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        # Copy-on-write, because torch has no read-only tensors.
        mapped: NDArray[np.uint8] = np.memmap(
            self.storage.path,
            np.uint8,
            "c",
            self.storage.offset_bytes,
            (num_items * self.dtype.itemsize,),
        )
        if self.storage.offset_bytes % self.dtype.itemsize:
            mapped = np.array(mapped)  # in memory of its own it is aligned
        flat = torch.from_numpy(mapped).view(self.dtype)
        return flat.as_strided(self.shape, self.strides, self.offset)


@dataclass(frozen=True, slots=True)
class Tile:
    """A block of a whole tensor.

    Attributes:
        start: where the block begins in the whole tensor, per axis.
        source: the tensor in a file that holds it.
        source_start: where the block begins in that tensor, per axis.
        shape: of the block.
    """

    start: Shape
    source: StoredTensor
    source_start: Shape
    shape: Shape


@dataclass(frozen=True, slots=True)
class TiledTensor:
    """A whole tensor.

    Attributes:
        origin: its name in the files, for messages.
    """

    shape: Shape
    dtype: torch.dtype
    tiles: tuple[Tile, ...]
    origin: str

    @classmethod
    def of(cls, source: StoredTensor, origin: str) -> TiledTensor:
        """A tensor that lies in one piece."""
        zeros = (0,) * len(source.shape)
        tile = Tile(zeros, source, zeros, source.shape)
        return cls(source.shape, source.dtype, (tile,), origin)

    def read(self, rows: slice = slice(None), columns: slice | None = None) -> torch.Tensor:
        """Rows of the first, columns of the second axis, in the stored precision."""
        cuts = (rows, columns or slice(None))[: len(self.shape)]
        cuts += (slice(None),) * (len(self.shape) - len(cuts))
        ranges = [range(*cut.indices(n)) for cut, n in zip(cuts, self.shape, strict=True)]
        out = torch.empty([len(r) for r in ranges], dtype=self.dtype)
        for tile in self.tiles:
            spans = [
                (max(r.start, start), min(r.stop, start + size))
                for r, start, size in zip(ranges, tile.start, tile.shape, strict=True)
            ]
            if any(first >= last for first, last in spans):
                continue
            target = tuple(
                slice(a - r.start, b - r.start) for (a, b), r in zip(spans, ranges, strict=True)
            )
            source = tuple(
                slice(a - start + origin, b - start + origin)
                for (a, b), start, origin in zip(spans, tile.start, tile.source_start, strict=True)
            )
            out[target] = tile.source.map()[source]
        return out

    def rows_of(self, blocks: Iterable[tuple[int, int]], origin: str) -> TiledTensor:
        """Another tensor made of row blocks (first, last + 1) of this one, in that order."""
        tiles: list[Tile] = []
        num_rows = 0
        for first, last in blocks:
            for tile in self.tiles:
                a, b = max(first, tile.start[0]), min(last, tile.start[0] + tile.shape[0])
                if a < b:
                    start = (num_rows + a - first, *tile.start[1:])
                    inside = (tile.source_start[0] + a - tile.start[0], *tile.source_start[1:])
                    tiles.append(Tile(start, tile.source, inside, (b - a, *tile.shape[1:])))
            num_rows += last - first
        return TiledTensor((num_rows, *self.shape[1:]), self.dtype, tuple(tiles), origin)


def join(parts: Sequence[TiledTensor], axis: int, origin: str) -> TiledTensor:
    """One tensor from parts that lie side by side along `axis`.

    Raises:
        ValueError: their shapes or precisions don't fit together.
    """
    first = parts[0]
    tiles: list[Tile] = []
    length = 0
    for part in parts:
        others = [s for i, s in enumerate(part.shape) if i != axis]
        if others != [s for i, s in enumerate(first.shape) if i != axis] or (
            part.dtype != first.dtype
        ):
            raise ValueError(
                f"{origin} has {part.dtype} {part.shape} in one part and "
                f"{first.dtype} {first.shape} in another"
            )
        for tile in part.tiles:
            start = tuple(s + length if i == axis else s for i, s in enumerate(tile.start))
            tiles.append(Tile(start, tile.source, tile.source_start, tile.shape))
        length += part.shape[axis]
    shape = tuple(length if i == axis else s for i, s in enumerate(first.shape))
    return TiledTensor(shape, first.dtype, tuple(tiles), origin)


def uncovered(tensor: TiledTensor) -> bool:
    """Whether some element of the tensor lies in no file (tiles are assumed not to overlap)."""
    return sum(prod(tile.shape) for tile in tensor.tiles) != prod(tensor.shape)
