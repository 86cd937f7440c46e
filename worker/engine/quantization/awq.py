"""Calibration for 4-bit weights: input factors by the search of `scale_search`."""

from __future__ import annotations

from typing import Any

import torch

from worker.engine.quantization.method import Forward, matrices_of
from worker.engine.quantization.observer import Observer
from worker.engine.quantization.scale_search import search
from worker.engine.quantization.table import MatrixFindings

_SAMPLE_TOKENS = 512  # inputs that each candidate's errors are measured on


class Awq:
    """See `Method`.

    Attributes:
        error_shares: of each matrix, in turn, the share of plain rounding's error that is left.
    """

    def __init__(self, group_size: int) -> None:
        self._group_size = group_size
        self.error_shares: list[float] = []

    def look_at(
        self, gpt: Any, num_tokens: int, forward: Forward
    ) -> tuple[list[torch.Tensor], dict[str, MatrixFindings]]:
        matrices = matrices_of(gpt)
        with Observer(matrices, num_tokens, _SAMPLE_TOKENS) as observer:
            outputs = forward()
        findings = {}
        for name, module in matrices.items():
            weight = module.weight
            found = search(weight.float(), observer.inputs(name), self._group_size, weight.dtype)
            findings[name] = MatrixFindings(found.factors)
            self.error_shares.append(found.error / (found.plain_error or 1.0))
        return outputs, findings
