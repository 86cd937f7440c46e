"""AWQ's search (Lin et al. 2023, section 3.2) for scales of a matrix's inputs. Pure torch.

Inputs that are large matter most. A matrix whose columns are multiplied by their inputs' size to
some power, and whose inputs are divided by the same, computes the same, but its rounding errors
move to where they matter less. The power is the one whose errors are smallest on real inputs;
power 0 is plain rounding, so the search is never worse than that on what it saw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import linear

from worker.engine.quantization.int4 import dequantize, quantize

_NUM_POWERS = 20  # 0, 0.05, … 0.95
_SMALLEST_SHARE = 1e-4  # of the largest input's size; dead inputs would spread the scales
FACTOR_DTYPE = torch.bfloat16
"""Factors are rounded to what every precision holds exactly."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a matrix is applied to.

    Attributes:
        sizes: mean absolute value of each input, (inputs,) float32.
        sample: some of them, (tokens, inputs) float32.
    """

    sizes: torch.Tensor
    sample: torch.Tensor


@dataclass(frozen=True, slots=True)
class Found:
    """The search's result.

    Attributes:
        factors: what inputs are multiplied by, (inputs,) in FACTOR_DTYPE; the matrix's columns
            are divided by it.
        error: mean square of what quantization does to the outputs of the sample.
        plain_error: the same without factors.
    """

    factors: torch.Tensor
    error: float
    plain_error: float


def search(weight: torch.Tensor, inputs: Inputs, group_size: int, dtype: torch.dtype) -> Found:
    """The best factors for one matrix.

    Args:
        weight: (outputs, inputs) float32.
        dtype: that the matrix will be computed in.
    """
    expected = linear(inputs.sample, weight)
    floor = (inputs.sizes.max() * _SMALLEST_SHARE).clamp(min=torch.finfo(torch.float32).tiny)
    sizes = inputs.sizes.clamp(min=floor)
    candidates = [_factors(sizes, step / _NUM_POWERS) for step in range(_NUM_POWERS)]
    errors = []
    for factors in candidates:
        rounded = dequantize(quantize(scaled(weight, factors), group_size, dtype)).float()
        computed = linear(inputs.sample * factors.float(), rounded)
        errors.append((computed - expected).square().mean().item())
    best = min(range(_NUM_POWERS), key=errors.__getitem__)
    return Found(candidates[best], errors[best], errors[0])


def scaled(weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """The matrix for inputs that were multiplied by `factors`."""
    return weight / factors.float()


def _factors(sizes: torch.Tensor, power: float) -> torch.Tensor:
    """sizes to the power of -`power`, around 1."""
    grown = sizes**power
    return ((grown.max() * grown.min()).sqrt() / grown).to(FACTOR_DTYPE)
