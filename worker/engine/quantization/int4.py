"""Weights in 4 bits, group by group, each group with its own step and zero. Pure torch.

A group is `group_size` neighbouring inputs of one output. Its weights are 16 evenly spaced values
that include 0, so a column of zeros stays one. Two 4-bit codes share a byte: the first half of a
group lies in the low nibbles, the second half in the high ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_MOST = 15  # largest code


class Int4(NamedTuple):
    """A quantized matrix (outputs, inputs).

    Attributes:
        codes: (outputs, groups, group_size / 2) uint8.
        steps: (outputs, groups), in the precision that the matrix is computed in.
        zeros: (outputs, groups) uint8, the code that stands for 0.
    """

    codes: torch.Tensor
    steps: torch.Tensor
    zeros: torch.Tensor


def quantize(weight: torch.Tensor, group_size: int, dtype: torch.dtype) -> Int4:
    """Round each weight to the nearest of its group's 16 values.

    Every value follows from its group alone, so a slice of whole groups quantizes to the same
    bytes as it does within the whole matrix.

    Args:
        weight: (outputs, inputs) float32; group_size divides the inputs.
        dtype: of the steps; the codes are those that are right for the rounded steps.
    """
    num_outputs, num_inputs = weight.shape
    groups = weight.view(num_outputs, num_inputs // group_size, group_size)
    low = groups.amin(-1).clamp(max=0)
    high = groups.amax(-1).clamp(min=0)
    steps = ((high - low) / _MOST).clamp(min=torch.finfo(dtype).tiny).to(dtype)
    exact = steps.float()
    zeros = (-low / exact).round_().clamp_(0, _MOST)
    codes = (groups / exact[..., None]).round_().add_(zeros[..., None]).clamp_(0, _MOST)
    first, second = codes.to(torch.uint8).chunk(2, dim=-1)
    return Int4(first | (second << 4), steps, zeros.to(torch.uint8))


def dequantize(weight: Int4) -> torch.Tensor:
    """The matrix (outputs, inputs), in the precision of its steps."""
    codes, steps, zeros = weight
    num_outputs, num_groups, half = codes.shape
    groups = torch.empty(
        (num_outputs, num_groups, 2 * half), dtype=steps.dtype, device=codes.device
    )
    groups[..., :half] = codes & _MOST
    groups[..., half:] = codes >> 4
    groups.sub_(zeros[..., None]).mul_(steps[..., None])
    return groups.view(num_outputs, -1)
