"""What the tests of quantization have the rank processes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from neva.local_model import LocalModel
from neva.rank_split import stage_of
from tests.worker.engine.rank_functions import Setup, engine_for
from worker.checkpoint.open import open_checkpoint
from worker.engine.attention import RotaryTable
from worker.engine.distributed import Ranks
from worker.engine.language_model import build_gpt_model
from worker.engine.language_weights import load_language_model
from worker.engine.layers import run_layers
from worker.engine.progress import Progress
from worker.engine.quantization.awq import Awq
from worker.engine.quantization.calibrate import CalibrationPrompt, CausalContext, calibrate
from worker.engine.quantization.method import Method, matrices_of
from worker.engine.quantization.table import to_bytes


def calibration_of(
    ranks: Ranks,
    model_dir: Path,
    prompts: Sequence[CalibrationPrompt],
    algorithm: Literal["awq", "int8_sq", "fp8"],
    group_size: int,
) -> tuple[bytes, list[float]]:
    """The calibration file and, of awq, the shares of plain rounding's error left."""
    awq = Awq(group_size)
    method: Method = awq
    if algorithm != "awq":
        from worker.engine.quantization.eight_bits import ModelOpt

        method = ModelOpt(algorithm)
    done: list[int] = []
    model = LocalModel(model_dir)
    findings = calibrate(model, torch.float32, prompts, method, ranks, done.append)
    assert done == [0, 1, 2]
    return to_bytes(findings), awq.error_shares


def quantized_parts(ranks: Ranks, setup: Setup) -> dict[str, dict[str, bytes]]:
    """What this rank holds of each quantized matrix of the first layer, as bytes."""
    layer = engine_for(ranks, setup).language_model._model.decoder.layers[0]
    return {
        name: {
            key: tensor.cpu().numpy().tobytes()
            for key, tensor in module.named_buffers(recurse=False)
        }
        for name, module in layer.named_modules()
        if hasattr(module, "factors")
    }


def layer_bytes(ranks: Ranks, setup: Setup) -> int:
    """Memory of the transformer layers on this rank."""
    decoder = engine_for(ranks, setup).language_model._model.decoder.layers
    tensors = [*decoder.parameters(), *decoder.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@torch.inference_mode()
def distance_from_modelopt(
    ranks: Ranks, model_dir: Path, algorithm: Literal["int8_sq", "fp8"]
) -> dict[str, tuple[float, float]]:
    """Of each matrix of one layer, relative errors of our outputs for new inputs: against those of
    the module that modelopt itself made, and against the unquantized ones.
    """
    from worker.engine.quantization.eight_bits import EightBitLinear, ModelOpt

    with open_checkpoint(LocalModel(model_dir)) as checkpoint:
        shape = replace(checkpoint.shape.language, num_layers=1)
        whole = stage_of(1, 0, 1)
        gpt: Any = build_gpt_model(shape, 1, torch.float32, whole)
        load_language_model(gpt, checkpoint.weights, shape, 0, 1, whole)
    weights = {name: module.weight.clone() for name, module in matrices_of(gpt).items()}
    generator = torch.Generator().manual_seed(1)
    seen, new = (torch.randn(64, 1, shape.hidden_size, generator=generator) for _ in range(2))
    rotary = RotaryTable(
        torch.tensor(shape.inverse_frequencies), shape.rotary_scaling, shape.context_tokens
    )

    def forward() -> list[torch.Tensor]:
        # A copy: the layers overwrite what they are given.
        return [run_layers(gpt.decoder, seen.clone(), CausalContext(rotary, seen), Progress())]

    _, findings = ModelOpt(algorithm).look_at(gpt, 64, forward)
    distances = {}
    for name, module in matrices_of(gpt).items():
        ours = EightBitLinear(weights[name], None, findings[name], algorithm, False, ranks)
        inputs = new.repeat(1, 1, 4)[..., : weights[name].size(1)]
        found, theirs, exact = ours(inputs)[0], module(inputs)[0], inputs @ weights[name].T
        distances[name] = tuple(
            float((found - other).norm() / other.norm()) for other in (theirs, exact)
        )
    return distances
