"""Index a file written by torch.save without reading its tensors and without executing its pickle.

The pickle is walked by torch's own restricted unpickler (`weights_only`) with fake tensors, which
know where in the file their storages lie.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import IO, Any, cast

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from neva.archive import Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.stored import StoredTensor

# Transformer Engine keeps its bookkeeping in byte buffers; as a type it can do no harm.
_HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [io.BytesIO]


class SegmentFile(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self._file = segment.path.open("rb")
        self._segment = segment
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = (0, self._position, self._segment.size_bytes)[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        left = max(0, self._segment.size_bytes - self._position)
        self._file.seek(self._segment.offset_bytes + self._position)
        num_bytes = self._file.readinto(memoryview(buffer)[:left])
        self._position += num_bytes
        return num_bytes

    def close(self) -> None:
        self._file.close()
        super().close()


def read_index(segment: Segment, name: str) -> Any:
    """What torch.save wrote, every tensor replaced by a `StoredTensor`; dicts and lists are kept.

    Raises:
        ConfigError: INVALID_CHECKPOINT, no file of torch.save, of before torch 1.6, or one whose
            pickle wants anything but tensors and plain containers.
    """
    try:
        with (
            SegmentFile(segment) as file,
            FakeTensorMode(),
            torch.serialization.safe_globals(_HARMLESS),
        ):
            return _located(torch.load(cast(IO[bytes], file), weights_only=True), segment)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{name} can't be read as weights: {problem}", reason=Reason.INVALID_CHECKPOINT
        ) from error


def _located(value: Any, segment: Segment) -> Any:
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        offset_bytes = getattr(storage, "_checkpoint_offset", None)
        if offset_bytes is None:
            raise ValueError("it is in the format of before torch 1.6; save it again")
        return StoredTensor(
            segment.part(offset_bytes, storage.nbytes()),
            value.dtype,
            tuple(value.shape),
            tuple(value.stride()),
            int(value.storage_offset()),
        )
    if isinstance(value, dict):
        return {key: _located(item, segment) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_located(item, segment) for item in value]
    return value


def read_tensors(segment: Segment, name: str) -> dict[str, StoredTensor]:
    """A flat dict of tensors; entries that are no tensors are bookkeeping and left out.

    Raises:
        ConfigError: INVALID_CHECKPOINT, see `read_index`, or no dict.
    """
    found = read_index(segment, name)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise ConfigError(
            f"{name} holds no dict of tensors but {type(found).__name__}",
            reason=Reason.INVALID_CHECKPOINT,
        )
    return {key: item for key, item in found.items() if isinstance(item, StoredTensor)}
