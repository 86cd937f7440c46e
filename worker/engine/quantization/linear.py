"""What stands in the place of one of megatron's parallel linear layers, whatever its bits."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn

from worker.engine.distributed import Ranks


class QuantizedLinear(nn.Module):
    """A quantized matrix with the bias, as it was, of the layer that it replaces.

    It is called like megatron's layers: input (…, inputs on this rank), and the result is
    (output, None), for no bias is left to be added.
    """

    bias: torch.Tensor | None

    def __init__(self, bias: torch.Tensor | None, reduce_over: dist.ProcessGroup | None) -> None:
        """bias: (outputs on this rank,); reduce_over: ranks whose products are parts of a sum."""
        super().__init__()
        self.register_buffer("bias", bias)
        self._reduce_over = reduce_over

    @staticmethod
    def group_to_sum_over(is_split_by_inputs: bool, ranks: Ranks) -> dist.ProcessGroup | None:
        """`reduce_over` of a matrix that is split among the ranks of its stage."""
        return ranks.tensor_group if is_split_by_inputs and ranks.tensor_size > 1 else None

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        """This rank's matrix applied to (…, inputs)."""
        raise NotImplementedError

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, None]:
        output = self.product(inputs)
        if self._reduce_over is not None:
            dist.all_reduce(output, group=self._reduce_over)
        return output if self.bias is None else output + self.bias, None
