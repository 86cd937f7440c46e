"""The tensors of a directory of safetensors files: their shapes, and slices of them.

Only headers are read at opening; a slice reads its own bytes from the memory-mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError, safe_open

from neva.errors import ConfigError
from neva.reasons import Reason

_SINGLE_FILE = "model.safetensors"
_INDEX_FILE = "model.safetensors.index.json"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


class SafetensorsDirectory:
    """All tensors under their names in the files, wherever they lie."""

    def __init__(self, handles: dict[str, Any]) -> None:
        """handles: open file by tensor name."""
        self._handles = handles
        self.shapes: dict[str, tuple[int, ...]] = {
            name: tuple(handle.get_slice(name).get_shape()) for name, handle in handles.items()
        }

    def dtype(self, name: str) -> torch.dtype:
        """A tensor's precision in the file."""
        found: str = self._handles[name].get_slice(name).get_dtype()
        return _DTYPES[found]

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        """A part of a tensor, in the file's precision: rows of its first, columns of its second
        dimension."""
        whole = self._handles[name].get_slice(name)
        part: torch.Tensor = whole[rows] if columns is None else whole[rows, columns]
        return part


@contextmanager
def open_safetensors(directory: Path) -> Iterator[SafetensorsDirectory]:
    """Open `model.safetensors`, or the files that `model.safetensors.index.json` lists.

    Raises:
        ConfigError: INVALID_CHECKPOINT, nothing there, a listed file is missing, or no safetensors.
    """
    with ExitStack() as stack:
        handles: dict[str, Any] = {}
        for file in _files(directory):
            try:
                handle = stack.enter_context(safe_open(str(file), framework="pt"))
            except (OSError, SafetensorError) as error:
                raise _invalid(f"{file} can't be read as safetensors: {error}") from error
            for name in handle.keys():  # noqa: SIM118  (not a dict)
                if name in handles:
                    raise _invalid(f"tensor {name} is in two files of {directory}")
                handles[name] = handle
        yield SafetensorsDirectory(handles)


def _files(directory: Path) -> list[Path]:
    index = directory / _INDEX_FILE
    if index.is_file():
        try:
            names = sorted(set(orjson.loads(index.read_bytes())["weight_map"].values()))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise _invalid(f"{index} is no index of safetensors files: {error}") from error
        return [directory / Path(name).name for name in names]
    single = directory / _SINGLE_FILE
    if not single.is_file():
        raise _invalid(
            f"the model directory {directory} has no {_SINGLE_FILE} and no {_INDEX_FILE}"
        )
    return [single]


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)
