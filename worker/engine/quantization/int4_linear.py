"""A matrix in 4 bits in the place of one of megatron's parallel linear layers."""

from __future__ import annotations

from typing import Self

import torch
import torch.distributed as dist
from torch.nn.functional import linear

from worker.engine.distributed import Ranks
from worker.engine.quantization.int4 import Int4, dequantize, quantize
from worker.engine.quantization.linear import QuantizedLinear
from worker.engine.quantization.scale_search import scaled


class Int4Linear(QuantizedLinear):
    """A matrix kept in 4 bits and widened at each call.

    Widening costs time and saves memory: at no time is more than one matrix wide.
    """

    codes: torch.Tensor
    steps: torch.Tensor
    zeros: torch.Tensor
    factors: torch.Tensor

    def __init__(
        self,
        weight: Int4,
        factors: torch.Tensor,
        bias: torch.Tensor | None = None,
        reduce_over: dist.ProcessGroup | None = None,
    ) -> None:
        """factors: (inputs,)"""
        super().__init__(bias, reduce_over)
        self.register_buffer("codes", weight.codes)
        self.register_buffer("steps", weight.steps)
        self.register_buffer("zeros", weight.zeros)
        self.register_buffer("factors", factors)

    @classmethod
    def of(
        cls,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
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
            bias,
            cls.group_to_sum_over(is_split_by_inputs, ranks),
        )

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        weight = dequantize(Int4(self.codes, self.steps, self.zeros))
        return linear(inputs * self.factors, weight)
