"""The vision tower of a NeMo checkpoint: a Hugging Face CLIP or SigLIP directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import orjson
import torch
from transformers import CLIPVisionConfig, SiglipVisionConfig

from neva.archive import Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.base import refuse, shape_problems
from worker.checkpoint.hf_llava_layout import tower_shapes
from worker.checkpoint.safetensors_dir import open_safetensors
from worker.checkpoint.stored import TiledTensor
from worker.checkpoint.torch_file import read_tensors
from worker.engine.architecture import TowerConfig

_TORCH_FILE = "pytorch_model.bin"
# A directory of a whole CLIP or SigLIP also has a text tower.
_NOT_OF_THE_TOWER = re.compile(
    r"^(text_model\.|text_projection\.|visual_projection\.|logit_scale$|logit_bias$)|position_ids$"
)
_PREFIX = re.compile(r"^(vision_model\.)?")

_CLIP = ("clip", "clip_vision_model")
_SIGLIP = ("siglip", "siglip_vision_model")

Reader = Callable[[str, slice, slice | None], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Tower:
    """An opened tower; tensors under `vision_tower.…`."""

    config: TowerConfig
    read: Reader
    num_bytes: int


@contextmanager
def open_tower(directory: Path, inside: Mapping[str, TiledTensor]) -> Iterator[Tower]:
    """Open a tower's directory.

    Args:
        inside: the tower's tensors where the checkpoint itself has them (it was trained along),
            under canonical names; the directory then only says its architecture.

    Raises:
        ConfigError: INVALID_CHECKPOINT, names every missing, unexpected and misshapen tensor;
            UNSUPPORTED_MODEL, neither CLIP nor SigLIP.
    """
    config = read_tower_config(directory)
    if inside:
        _check(directory, {n: (t.origin, t.shape) for n, t in inside.items()}, config)
        num_bytes = sum(prod(t.shape) * t.dtype.itemsize for t in inside.values())
        yield Tower(config, lambda name, rows, cols: inside[name].read(rows, cols), num_bytes)
    elif not (directory / _TORCH_FILE).is_file() or any(directory.glob("*.safetensors*")):
        with open_safetensors(directory) as files:
            names = _canonical(files.shapes)
            _check(directory, {n: (raw, files.shapes[raw]) for n, raw in names.items()}, config)
            num_bytes = sum(
                prod(files.shapes[raw]) * files.dtype(raw).itemsize for raw in names.values()
            )
            yield Tower(
                config, lambda name, rows, cols: files.read(names[name], rows, cols), num_bytes
            )
    else:
        file = directory / _TORCH_FILE
        stored = read_tensors(Segment(file, 0, file.stat().st_size), str(file))
        names = _canonical(stored)
        tensors = {name: TiledTensor.of(stored[raw], raw) for name, raw in names.items()}
        _check(directory, {n: (t.origin, t.shape) for n, t in tensors.items()}, config)
        num_bytes = sum(prod(t.shape) * t.dtype.itemsize for t in tensors.values())
        yield Tower(config, lambda name, rows, cols: tensors[name].read(rows, cols), num_bytes)


def read_tower_config(directory: Path) -> TowerConfig:
    """Of a tower alone, or of a whole CLIP or SigLIP.

    Raises:
        ConfigError: INVALID_CHECKPOINT, no usable config.json; UNSUPPORTED_MODEL, neither a CLIP
            nor a SigLIP.
    """
    file = directory / "config.json"
    try:
        raw: Any = orjson.loads(file.read_bytes())
        kind = raw.get("model_type")
        raw = raw.get("vision_config", raw)
        is_siglip = kind in _SIGLIP
        config: TowerConfig = (SiglipVisionConfig if is_siglip else CLIPVisionConfig).from_dict(raw)
    except Exception as error:  # transformers raises whatever a wrong value leads to
        raise ConfigError(
            f"{file} can't be read: {error}", reason=Reason.INVALID_CHECKPOINT
        ) from error
    if kind not in (*_CLIP, *_SIGLIP):
        raise ConfigError(
            f"{file}: model_type is {kind!r}, only a CLIP or a SigLIP can be the vision tower",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    return config


def _canonical(names: Mapping[str, object]) -> dict[str, str]:
    return {
        _PREFIX.sub("vision_tower.", name): name
        for name in sorted(names)
        if not _NOT_OF_THE_TOWER.search(name)
    }


def _check(
    directory: Path, found: Mapping[str, tuple[str, tuple[int, ...]]], config: TowerConfig
) -> None:
    refuse(str(directory), "config.json", shape_problems(found, tower_shapes(config)))
