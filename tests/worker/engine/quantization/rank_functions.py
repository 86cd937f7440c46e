"""What the tests of quantization have the rank processes do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from neva.local_model import LocalModel
from tests.worker.engine.rank_functions import Setup, engine_for
from worker.engine.distributed import Ranks
from worker.engine.quantization.calibrate import CalibrationPrompt, calibrate
from worker.engine.quantization.layers import Int4Linear
from worker.engine.quantization.table import to_bytes

Shares = dict[tuple[int, str], float]


def calibration_of(
    ranks: Ranks, model_dir: Path, prompts: Sequence[CalibrationPrompt], group_size: int
) -> tuple[bytes, Shares]:
    """The calibration file, and the share of plain rounding's error left, by layer and matrix."""
    shares: Shares = {}

    def tell(layer: int, matrix: str, share: float) -> None:
        shares[layer, matrix] = share

    model = LocalModel(model_dir)
    return to_bytes(calibrate(model, torch.float32, prompts, group_size, ranks, tell)), shares


def quantized_parts(ranks: Ranks, setup: Setup) -> dict[str, dict[str, bytes]]:
    """What this rank holds of each quantized matrix of the first layer, as bytes."""
    layer = engine_for(ranks, setup).language_model._model.decoder.layers[0]
    return {
        name: {key: tensor.numpy().tobytes() for key, tensor in module.named_buffers()}
        for name, module in layer.named_modules()
        if isinstance(module, Int4Linear)
    }


def layer_bytes(ranks: Ranks, setup: Setup) -> int:
    """Memory of the transformer layers on this rank."""
    decoder = engine_for(ranks, setup).language_model._model.decoder.layers
    tensors = [*decoder.parameters(), *decoder.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
