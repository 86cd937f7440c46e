"""AWQ's search for input factors."""

from __future__ import annotations

import torch
from torch.nn.functional import linear

from worker.engine.quantization.int4 import dequantize, quantize
from worker.engine.quantization.observer import Observer
from worker.engine.quantization.scale_search import Inputs, scaled, search

GENERATOR = torch.Generator().manual_seed(0)
WEIGHT = torch.randn(64, 128, generator=GENERATOR)
SIZES = torch.exp(2 * torch.randn(128, generator=GENERATOR))


def inputs_of(tokens: torch.Tensor) -> Inputs:
    return Inputs(tokens.abs().mean(0), tokens)


def error_of(factors: torch.Tensor, tokens: torch.Tensor) -> float:
    rounded = dequantize(quantize(scaled(WEIGHT, factors), 32, torch.float32))
    computed = linear(tokens * factors.float(), rounded)
    return float((computed - linear(tokens, WEIGHT)).square().mean())


def test_inputs_of_unequal_size_get_factors_that_lower_the_error_on_others_like_them() -> None:
    seen, new = (torch.randn(300, 128, generator=GENERATOR) * SIZES for _ in range(2))
    found = search(WEIGHT, inputs_of(seen), 32, torch.float32)
    assert found.error < 0.7 * found.plain_error
    assert error_of(found.factors, new) < 0.7 * error_of(torch.ones(128), new)
    largest, smallest = SIZES.argmax(), SIZES.argmin()
    assert found.factors[largest] < found.factors[smallest], "the important columns grow"


def test_it_is_never_worse_than_plain_rounding_on_what_it_saw() -> None:
    equal = torch.randn(300, 128, generator=GENERATOR)
    found = search(WEIGHT, inputs_of(equal), 32, torch.float32)
    assert found.error <= found.plain_error
    assert found.error == error_of(found.factors, equal)


def test_dead_inputs_do_no_harm() -> None:
    tokens = torch.randn(300, 128, generator=GENERATOR) * SIZES
    tokens[:, ::2] = 0
    found = search(WEIGHT, inputs_of(tokens), 32, torch.float32)
    assert found.factors.isfinite().all()
    assert found.error < found.plain_error
    nothing = search(WEIGHT, inputs_of(torch.zeros(3, 128)), 32, torch.float32)
    assert (nothing.factors == 1).all()


def test_the_sample_does_not_depend_on_how_tokens_come() -> None:
    module = torch.nn.Linear(128, 4)
    tokens = torch.randn(100, 1, 128, generator=GENERATOR)
    seen = []
    for pieces in ([100], [1, 64, 35]):
        with Observer({"it": module}, num_tokens=100, num_sampled=30) as observer:
            for piece in tokens.split(pieces):
                module(piece)
        seen.append(observer.inputs("it"))
    assert torch.equal(seen[0].sample, tokens[::4, 0])
    assert torch.equal(seen[1].sample, seen[0].sample)
    assert torch.allclose(seen[0].sizes, tokens[:, 0].abs().mean(0))
