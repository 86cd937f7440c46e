"""Weights in 4 bits: how far off, how large, how they are cut."""

from __future__ import annotations

import pytest
import torch

from worker.engine.quantization.int4 import dequantize, quantize

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def weights(num_outputs: int = 24, num_inputs: int = 128, seed: int = 0) -> torch.Tensor:
    """Of very different sizes, some groups all positive or all negative."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(num_outputs, num_inputs, generator=generator)
    values *= torch.exp(2 * torch.randn(num_outputs, 1, generator=generator))
    values[0] = values[0].abs() + 1
    values[1] = -values[1].abs() - 1
    return values


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("group_size", [8, 32, 128])
def test_no_weight_is_further_off_than_half_a_step(group_size: int, dtype: torch.dtype) -> None:
    exact = weights()
    packed = quantize(exact, group_size, dtype)
    found = dequantize(packed)
    assert found.dtype == dtype
    steps = packed.steps.float().repeat_interleave(group_size, dim=1)
    # 15 steps that were rounded to the precision end that much beside the largest weight, and
    # the product of code and step is rounded, too.
    slack = 16 * torch.finfo(dtype).eps
    assert ((found.float() - exact).abs() <= steps * (0.5 + slack)).all()


def test_a_group_uses_all_16_values_of_its_own_range() -> None:
    exact = torch.linspace(-3, 12, 16).repeat(2, 1)
    exact[1] *= 1000
    found = dequantize(quantize(exact, 16, torch.float32))
    assert torch.allclose(found, exact, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_zeros_stay_zeros(dtype: torch.dtype) -> None:
    exact = weights()
    exact[:, 5] = 0
    exact[3] = 0
    found = dequantize(quantize(exact, 32, dtype))
    assert (found[:, 5] == 0).all()
    assert (found[3] == 0).all()


def test_a_slice_of_whole_groups_quantizes_to_the_same_bytes() -> None:
    exact = weights()
    whole = quantize(exact, 32, torch.bfloat16)
    part = quantize(exact[4:9, 32:96].contiguous(), 32, torch.bfloat16)
    for of_whole, of_part in zip(whole, part, strict=True):
        assert torch.equal(of_whole[4:9, 1:3], of_part)


def test_two_weights_take_a_byte() -> None:
    packed = quantize(weights(), 64, torch.bfloat16)
    sizes = [t.numel() * t.element_size() for t in packed]
    assert sizes == [24 * 128 // 2, 24 * 2 * 2, 24 * 2]


def test_what_is_not_finite_stays_so() -> None:
    exact = weights()
    exact[2, 40] = torch.nan
    assert dequantize(quantize(exact, 32, torch.float32))[2, 32:64].isnan().all()
