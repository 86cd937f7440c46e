"""What the engine needs of a model on disk, whatever its format.

Canonical names are those of a Hugging Face LLaVA without its wrappers: `lm_head.weight`,
`language_model.embed_tokens.weight`, `language_model.norm.weight`, and in
`language_model.layers.{i}.`: `input_layernorm`, `post_attention_layernorm`,
`self_attn.{q,k,v,o}_proj`, `mlp.{gate,up,down}_proj`; in `multi_modal_projector.`: `norm`,
`linear_1`, `linear_2`; `vision_tower.…` as transformers' CLIPVisionModel or SiglipVisionModel names
them. Norm weights are as stored (see `LanguageShape`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from neva.errors import ConfigError
from neva.reasons import Reason
from worker.engine.architecture import LlavaShape

Shape = tuple[int, ...]


class Weights(Protocol):
    """Checked tensors under their canonical names: all that the architecture has."""

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        """Rows of a tensor's first, columns of its second axis, in the stored precision.

        Only what is asked for is read from disk, as far as the format allows.
        """
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened model.

    Attributes:
        layout: what was found, for people ("torch_dist, tar").
        num_bytes: of all its tensors as stored.
    """

    shape: LlavaShape
    weights: Weights
    layout: str
    num_bytes: int


def shape_problems(
    found: Mapping[str, tuple[str, Shape]], expected: Mapping[str, Shape]
) -> list[str]:
    """Every missing, unexpected and misshapen tensor, in words.

    Args:
        found: the tensor's name in the files and its shape, by the name to compare.
        expected: shape by name; an axis of -n stands for n or more.
    """
    problems = [f"missing {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"unexpected {found[n][0]}" for n in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        origin, shape = found[name]
        if not _fits(shape, expected[name]):
            wanted = str(tuple(abs(size) for size in expected[name]))
            problems.append(f"{origin} has shape {shape}, expected {wanted}")
    return problems


def _fits(shape: Shape, expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        size == wanted or (wanted < 0 and size >= -wanted)
        for size, wanted in zip(shape, expected, strict=True)
    )


def refuse(where: str, config: str, problems: Iterable[str]) -> None:
    """Raise ConfigError INVALID_CHECKPOINT naming all problems, if there are any."""
    words = "; ".join(problems)
    if words:
        raise ConfigError(
            f"the checkpoint {where} does not fit its {config}: {words}",
            reason=Reason.INVALID_CHECKPOINT,
        )
