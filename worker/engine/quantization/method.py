"""What the ways to calibrate have in common: each looks at one layer of the model at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from worker.engine.quantization.table import MATRICES, MatrixFindings

Forward = Callable[[], list[torch.Tensor]]
"""Runs all prompts through the layer; what comes out, by prompt."""


class Method(Protocol):
    """A way to calibrate."""

    def look_at(
        self, gpt: Any, num_tokens: int, forward: Forward
    ) -> tuple[list[torch.Tensor], dict[str, MatrixFindings]]:
        """Calibrate a model of one layer, which is not used again.

        Args:
            num_tokens: of all prompts.

        Returns the unquantized layer's outputs, and findings by matrix.
        """
        ...


def matrices_of(gpt: Any) -> dict[str, Any]:
    """The linear layers of a model of one layer, by name."""
    (layer,) = gpt.decoder.layers
    parts = (layer.self_attention, layer.mlp)
    return {name: getattr(part, name) for name in MATRICES for part in parts if hasattr(part, name)}
