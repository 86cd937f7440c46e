"""Quantized matrices in the place of megatron's parallel linear layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import linear, pad

from neva.errors import ConfigError
from neva.rank_split import split_over
from worker.engine.architecture import LanguageShape
from worker.engine.distributed import Ranks
from worker.engine.launch import Int4Config
from worker.engine.quantization.int4 import Int4, dequantize, quantize
from worker.engine.quantization.scale_search import scaled
from worker.engine.quantization.table import MATRICES, Factors, from_bytes

_SPLIT_BY_INPUTS = ("linear_proj", "linear_fc2")


class Int4Linear(nn.Module):
    """A matrix without bias, kept in 4 bits and widened at each call.

    It is called like megatron's layers: input (…, inputs on this rank), and the result is
    (output, None). Widening costs time and saves memory: at no time is more than one matrix wide.
    """

    codes: torch.Tensor
    steps: torch.Tensor
    zeros: torch.Tensor
    factors: torch.Tensor

    def __init__(
        self, weight: Int4, factors: torch.Tensor, reduce_over: dist.ProcessGroup | None
    ) -> None:
        """factors: (inputs,); reduce_over: ranks whose outputs are parts of a sum."""
        super().__init__()
        self.register_buffer("codes", weight.codes)
        self.register_buffer("steps", weight.steps)
        self.register_buffer("zeros", weight.zeros)
        self.register_buffer("factors", factors)
        self._reduce_over = reduce_over

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        weight = dequantize(Int4(self.codes, self.steps, self.zeros))
        output = linear(inputs * self.factors, weight)
        if self._reduce_over is not None:
            dist.all_reduce(output, group=self._reduce_over)
        return output, None


def quantize_by_file(gpt: Any, config: Int4Config, shape: LanguageShape, ranks: Ranks) -> None:
    """`quantize_layers` by the factors in a file. Raises ConfigError."""
    factors = from_bytes(config.calibration_file.read_bytes(), shape.num_layers)
    quantize_layers(gpt, factors, config.group_size, shape, ranks)


@torch.no_grad()
def quantize_layers(
    gpt: Any, factors: Factors, group_size: int, shape: LanguageShape, ranks: Ranks
) -> None:
    """Replace the matrices of a filled model by quantized ones on the rank's device.

    What a rank gets is its slice of what one rank alone would get, to the bit.

    Raises:
        ConfigError: `group_size` does not divide this rank's inputs of some matrix.
    """
    for number, layer in enumerate(gpt.decoder.layers):
        for parent in (layer.self_attention, layer.mlp):
            for name in MATRICES:
                if not hasattr(parent, name):
                    continue
                weight = getattr(parent, name).weight.data
                if weight.size(1) % group_size:
                    raise ConfigError(
                        f"model.quantization.groupSize {group_size} does not divide the inputs of "
                        f"{name} (K = {weight.size(1)} on each of {ranks.size} ranks)"
                    )
                mine = _part(factors[number, name], name, shape, ranks).to(ranks.device)
                wide = scaled(weight.to(ranks.device).float(), mine)
                is_part = name in _SPLIT_BY_INPUTS and ranks.size > 1
                matrix = Int4Linear(
                    quantize(wide, group_size, weight.dtype),
                    mine.to(weight.dtype),
                    ranks.tensor_group if is_part else None,
                )
                setattr(parent, name, matrix)


def _part(factors: torch.Tensor, name: str, shape: LanguageShape, ranks: Ranks) -> torch.Tensor:
    """A rank's factors; 1 for inputs that only fill up."""
    if name not in _SPLIT_BY_INPUTS:
        return factors
    split = split_over(shape, ranks.size)
    if name == "linear_proj":
        heads = split.heads(ranks.rank)
        part = slice(heads.start * shape.head_dim, heads.stop * shape.head_dim)
        size = len(heads) * shape.head_dim
    else:
        columns = split.ffn(ranks.rank)
        part, size = slice(columns.start, columns.stop), len(columns)
    return pad(factors[part], (0, size - len(factors[part])), value=1.0)
