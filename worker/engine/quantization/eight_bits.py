"""int8_sq and fp8: weights and activations rounded to 8 bits, by nvidia-modelopt.

Its rounding is simulated: values are rounded and computed on as before. So this shows what 8 bits
do to a model's answers, as the original's option does; it saves neither memory nor time.

int8_sq: SmoothQuant's input factors, a limit for each output of a matrix and one for its inputs.
fp8 (e4m3): one limit for the matrix, one for its inputs.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.distributed as dist
from torch.nn.functional import linear

from worker.engine.distributed import Ranks
from worker.engine.quantization.linear import QuantizedLinear
from worker.engine.quantization.method import Forward, matrices_of
from worker.engine.quantization.modelopt_api import (
    FP8_DEFAULT_CFG,
    INT8_SMOOTHQUANT_CFG,
    QuantizerAttributeConfig,
    TensorQuantizer,
    quantize,
    quietly,
)
from worker.engine.quantization.scale_search import scaled
from worker.engine.quantization.table import MatrixFindings

EightBits = Literal["int8_sq", "fp8"]

_CONFIGS = {"int8_sq": INT8_SMOOTHQUANT_CFG, "fp8": FP8_DEFAULT_CFG}


class ModelOpt:
    """See `Method`."""

    def __init__(self, algorithm: EightBits) -> None:
        self._algorithm = algorithm

    def look_at(
        self, gpt: Any, num_tokens: int, forward: Forward
    ) -> tuple[list[torch.Tensor], dict[str, MatrixFindings]]:
        outputs = forward()
        with quietly():
            quantize(gpt.decoder, _CONFIGS[self._algorithm], lambda _: forward())
        findings = {}
        for name, module in matrices_of(gpt).items():
            quantizer = module.input_quantizer
            factors = quantizer.pre_quant_scale
            if factors is None:
                factors = torch.ones(module.weight.size(1))
            findings[name] = MatrixFindings(
                factors.detach().float().flatten().cpu(), quantizer.amax.detach().float().cpu()
            )
        return outputs, findings


class EightBitLinear(QuantizedLinear):
    """A matrix whose weights and inputs are rounded to 8 bits."""

    factors: torch.Tensor
    weight: torch.Tensor

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        findings: MatrixFindings,
        algorithm: EightBits,
        is_split_by_inputs: bool,
        ranks: Ranks,
    ) -> None:
        """weight: this rank's (outputs, inputs); findings: with this rank's factors."""
        super().__init__(bias, self.group_to_sum_over(is_split_by_inputs, ranks))
        dtype, device = weight.dtype, ranks.device
        factors = findings.factors.to(device)
        wide = scaled(weight.to(device).float(), factors)
        per_output = algorithm == "int8_sq"
        limits = wide.abs().amax(1, keepdim=True) if per_output else wide.abs().amax()
        if ranks.tensor_size > 1 and (is_split_by_inputs or not per_output):
            dist.all_reduce(limits, op=dist.ReduceOp.MAX, group=ranks.tensor_group)
        rounding = _rounding(algorithm, per_output).to(device)
        rounding.amax = limits
        self._round_inputs = _rounding(algorithm, False).to(device)
        self._round_inputs.amax = findings.input_limit
        self._round_inputs.to(device)
        self.register_buffer("weight", rounding(wide).to(dtype))
        self.register_buffer("factors", factors.to(dtype))

    def product(self, inputs: torch.Tensor) -> torch.Tensor:
        return linear(self._round_inputs(inputs * self.factors), self.weight)


def _rounding(algorithm: EightBits, per_output: bool) -> Any:
    num_bits: Any = 8 if algorithm == "int8_sq" else (4, 3)
    axis = 0 if per_output else None
    return TensorQuantizer(QuantizerAttributeConfig(num_bits=num_bits, axis=axis))
