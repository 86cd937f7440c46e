"""A matrix in 4 bits in the place of one of megatron's parallel linear layers."""

from __future__ import annotations

from typing import Self

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import linear

from worker.engine.distributed import Ranks
from worker.engine.quantization.int4 import Int4, dequantize, quantize
from worker.engine.quantization.scale_search import scaled


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

    @classmethod
    def of(
        cls,
        weight: torch.Tensor,
        factors: torch.Tensor,
        group_size: int,
        is_split_by_inputs: bool,
        ranks: Ranks,
    ) -> Self:
        """Quantize this rank's (outputs, inputs) by its factors, on its device."""
        factors = factors.to(ranks.device)
        wide = scaled(weight.to(ranks.device).float(), factors)
        return cls(
            quantize(wide, group_size, weight.dtype),
            factors.to(weight.dtype),
            ranks.tensor_group if is_split_by_inputs and ranks.tensor_size > 1 else None,
        )

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        weight = dequantize(Int4(self.codes, self.steps, self.zeros))
        output = linear(inputs * self.factors, weight)
        if self._reduce_over is not None:
            dist.all_reduce(output, group=self._reduce_over)
        return output, None
