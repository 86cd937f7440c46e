"""Put quantized matrices in the place of a filled model's parallel linear layers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

from neva.errors import ConfigError
from neva.rank_split import Stage, split_over
from worker.engine.architecture import LanguageShape
from worker.engine.distributed import Ranks
from worker.engine.launch import QuantizationConfig
from worker.engine.quantization.int4_linear import Int4Linear
from worker.engine.quantization.table import MATRICES, MatrixFindings, from_bytes

_SPLIT_BY_INPUTS = ("linear_proj", "linear_fc2")


@torch.no_grad()
def quantize_layers(
    gpt: Any, config: QuantizationConfig, shape: LanguageShape, ranks: Ranks, stage: Stage
) -> None:
    """Replace the matrices of a filled model by quantized ones on the rank's device.

    What a rank gets is its slice of what one rank alone would get, to the bit. Collective.

    Raises:
        ConfigError: the calibration is another model's, or a group of weights would lie on two
            ranks.
    """
    findings = from_bytes(
        config.calibration_file.read_bytes(),
        shape.num_layers,
        has_limits=config.algorithm != "awq",
    )
    for number, layer in zip(stage.layers, gpt.decoder.layers, strict=True):
        for parent in (layer.self_attention, layer.mlp):
            for name in MATRICES:
                if hasattr(parent, name):
                    found = findings[number, name]
                    mine = _of_rank(found, name, shape, ranks)
                    module = getattr(parent, name)
                    setattr(parent, name, _quantized(module, mine, name, config, ranks))


def _quantized(
    module: Any,
    findings: MatrixFindings,
    name: str,
    config: QuantizationConfig,
    ranks: Ranks,
) -> nn.Module:
    weight = module.weight.data
    bias = module.bias.data if module.bias is not None else None
    is_split_by_inputs = name in _SPLIT_BY_INPUTS
    if config.algorithm != "awq":
        # Here, because it needs a package that is not always there.
        from worker.engine.quantization.eight_bits import EightBitLinear

        return EightBitLinear(weight, bias, findings, config.algorithm, is_split_by_inputs, ranks)
    if weight.size(1) % config.group_size:
        raise ConfigError(
            f"model.quantization.groupSize {config.group_size} does not divide the inputs of "
            f"{name} (K = {weight.size(1)} on each of {ranks.tensor_size} ranks)"
        )
    return Int4Linear.of(
        weight, bias, findings.factors, config.group_size, is_split_by_inputs, ranks
    )


def _of_rank(
    findings: MatrixFindings, name: str, shape: LanguageShape, ranks: Ranks
) -> MatrixFindings:
    """With a rank's factors; 1 for inputs that only fill up."""
    if name not in _SPLIT_BY_INPUTS:
        return findings
    split = split_over(shape, ranks.tensor_size)
    if name == "linear_proj":
        heads = split.heads(ranks.tensor_rank)
        columns = range(heads.start * shape.head_dim, heads.stop * shape.head_dim)
    else:
        columns = split.ffn(ranks.tensor_rank)
    part = findings.factors[columns.start : columns.stop]
    filled = pad(part, (0, len(columns) - len(part)), value=1.0)
    return MatrixFindings(filled, findings.input_limit)
