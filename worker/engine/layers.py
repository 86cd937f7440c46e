"""Run megatron's transformer layers one after the other, with what inference needs of them.

`TransformerBlock.forward` and `TransformerLayer.forward` also serve training, recomputation,
offloading, cross attention and graph capture; on small models those questions cost more time than
the answers. The modules inside are called as they are, so whatever they are (plain or gated,
quantised, another norm) is used as it is.
"""

from __future__ import annotations

from typing import Any

import torch

from worker.engine.attention import StepContext
from worker.engine.progress import Progress


def run_layers(
    decoder: Any, hidden: torch.Tensor, context: StepContext, progress: Progress
) -> torch.Tensor:
    """hidden: (tokens, rows, hidden). Returns the same shape, before the final norm."""
    for layer in decoder.layers:
        attended, bias = layer.self_attention(
            layer.input_layernorm(hidden), None, inference_context=context
        )
        hidden = hidden + (attended if bias is None else attended + bias)
        computed, bias = layer.mlp(layer.pre_mlp_layernorm(hidden))
        hidden = hidden + (computed if bias is None else computed + bias)
        progress.tick()
    return hidden
