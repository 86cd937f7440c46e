"""A Hugging Face LLaVA directory as a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path

import torch

from worker.checkpoint.base import Checkpoint, refuse, shape_problems
from worker.checkpoint.hf_llava_config import read_llava_shape
from worker.checkpoint.hf_llava_layout import canonical_name, expected_shapes
from worker.checkpoint.safetensors_dir import SafetensorsDirectory, open_safetensors


class LlavaWeights:
    """A checked directory: every tensor that the architecture has, under its canonical name."""

    def __init__(self, files: SafetensorsDirectory, names: dict[str, str]) -> None:
        """names: name in the file by canonical name."""
        self._files = files
        self._names = names

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        """A part of a tensor in the file's precision."""
        return self._files.read(self._names[name], rows, columns)


@contextmanager
def open_llava(directory: Path) -> Iterator[Checkpoint]:
    """Open the directory and compare its tensors' names and shapes with the architecture's.

    Raises:
        ConfigError: INVALID_CHECKPOINT, names every missing, unexpected and misshapen tensor;
            UNSUPPORTED_MODEL, see `read_llava_shape`.
    """
    shape = read_llava_shape(directory)
    with open_safetensors(directory) as files:
        names: dict[str, str] = {}
        problems: list[str] = []
        for name in sorted(files.shapes):
            canonical = canonical_name(name)
            if canonical is None:
                continue
            if canonical in names:
                problems.append(f"{name} is the same tensor as {names[canonical]}")
            names[canonical] = name
        if "lm_head.weight" in names:
            # Mostly a copy of the tied embedding; where it differs it is what transformers uses.
            shape = replace(shape, language=replace(shape.language, ties_embeddings=False))
        found = {canonical: (name, files.shapes[name]) for canonical, name in names.items()}
        problems += shape_problems(found, expected_shapes(shape))
        refuse(str(directory), "config.json", problems)
        num_bytes = sum(prod(files.shapes[n]) * files.dtype(n).itemsize for n in names.values())
        weights = LlavaWeights(files, names)
        yield Checkpoint(shape, weights, "Hugging Face LLaVA, safetensors", num_bytes)
