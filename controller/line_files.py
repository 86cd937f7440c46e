"""Lines parked on disk while they are regrouped, so that memory does not grow with their length.

What stays in memory of a line is where it stands: 17 bytes. The files are temporary, nobody else
opens them; a crash loses them, and the step that made them starts over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise, starmap
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

PLACE = np.dtype([("seq", "<u4"), ("start", "<u8"), ("size", "<u4"), ("file", "u1")])
"""A line, its line end included: `seq` is what it is sorted by."""
Places = NDArray[Any]  # of PLACE

_BUFFER_BYTES = 1 << 20
_READ_AT_ONCE = 4096  # lines
_BATCH_BYTES = 8 << 20
# Lines so near each other are read together: a system call costs as much as copying this much.
_MAX_GAP_BYTES = 4 << 10
_MAX_WINDOW_LINES = 1024


def as_array(numbers: Sequence[int]) -> NDArray[np.uint32]:
    """Numbers as an array; ranges quickly."""
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, dtype=np.uint32)
    return np.array(numbers, np.uint32)


class LineWriter:
    """Appends lines to a file of its own. Use it as a context manager."""

    def __init__(self, path: Path, file: int = 0) -> None:
        self.path = path
        self._file = file
        self._stream = path.open("wb", buffering=_BUFFER_BYTES)
        self._seqs, self._sizes = bytearray(), bytearray()

    def add(self, seqs: Sequence[int], lines: Sequence[bytes]) -> None:
        """Add lines, one at least, each without its line end."""
        self._seqs += as_array(seqs).data
        self._sizes += np.fromiter(map(len, lines), np.uint32, len(lines)).data
        self._stream.write(b"\n".join(lines))
        self._stream.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def close(self) -> Places:
        """Where all lines stand, in the order they were added."""
        self._stream.close()
        sizes = np.frombuffer(self._sizes, np.uint32) + 1
        places = np.empty(len(sizes), PLACE)
        places["seq"] = np.frombuffer(self._seqs, np.uint32)
        places["size"] = sizes
        places["start"] = np.cumsum(sizes, dtype=np.uint64) - sizes
        places["file"] = self._file
        return places


class LineReader:
    """Reads lines back, from several files, in any order. Use it as a context manager."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [os.open(path, os.O_RDONLY) for path in paths]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            os.close(file)

    def read(self, places: Places) -> list[bytes]:
        """The lines, line ends included; the more at once, the quicker. They fit into memory."""
        order = np.lexsort((places["start"], places["file"]))
        ordered = places.take(order)  # many times as quick as an index
        found: list[bytes] = []
        for first, last in pairwise(_windows(ordered)):
            found += self._window(ordered[first:last])
        index = np.empty(len(order), np.uint32)
        index[order] = np.arange(len(order), dtype=np.uint32)
        return list(map(found.__getitem__, index.tolist()))

    def read_adjacent(self, places: Places) -> list[bytes]:
        """Lines that follow each other, without their line ends; quicker yet."""
        found: list[bytes] = []
        edges = np.flatnonzero(np.diff(places["file"])) + 1
        for first, last in pairwise([0, *edges.tolist(), len(places)]):
            start = int(places["start"][first])
            end = int(places["start"][last - 1]) + int(places["size"][last - 1])
            data = os.pread(self._files[places["file"][first]], end - start - 1, start)
            found += data.split(b"\n")
        return found

    def _window(self, places: Places) -> list[bytes]:
        first = int(places["start"][0])
        starts = places["start"] - np.uint64(first)
        ends = starts + places["size"]
        data = os.pread(self._files[places["file"][0]], int(ends[-1]), first)
        return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]

    def each(self, places: Places) -> Iterator[tuple[int, bytes]]:
        """(seq, line without its line end), one after the other in little memory."""
        for batch in batches(places, _READ_AT_ONCE):
            some = places[batch]
            for seq, line in zip(some["seq"].tolist(), self.read(some), strict=True):
                yield seq, line[:-1]


def batches(places: Places, max_lines: int) -> Iterator[slice]:
    """Neighbours to be held in memory together: not many lines, and not many bytes.

    A batch has 8 MiB at most and a line's length more.
    """
    ends = np.cumsum(places["size"], dtype=np.uint64)
    by_bytes = np.flatnonzero(np.diff(ends // _BATCH_BYTES)) + 1
    edges = sorted({0, len(places), *range(0, len(places), max_lines), *by_bytes.tolist()})
    return starmap(slice, pairwise(edges))


def _windows(ordered: Places) -> list[int]:
    """Where lines end that are read together, of lines in the order of their files."""
    num_lines = len(ordered)
    starts = ordered["start"].astype(np.int64)
    ends = starts + ordered["size"]
    is_apart = (starts[1:] - ends[:-1] > _MAX_GAP_BYTES) | (np.diff(ordered["file"]) != 0)
    edges = {0, num_lines, *range(0, num_lines, _MAX_WINDOW_LINES)}
    return sorted(edges | set((np.flatnonzero(is_apart) + 1).tolist()))
