"""Run megatron's transformer layers one after the other, with what inference needs of them.

`TransformerBlock.forward` and `TransformerLayer.forward` also serve training, recomputation,
offloading, cross attention and graph capture; on small models those questions cost more time than
the answers. The modules inside are used as they are (plain or gated, quantised, another norm).
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from worker.engine.progress import Progress
from worker.engine.projection import project


class LayerContext(Protocol):
    """What a layer's attention asks of a pass."""

    def kept(self, layer: int, hidden: torch.Tensor) -> torch.Tensor: ...
    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor: ...


def run_layers(
    decoder: Any, hidden: torch.Tensor, context: LayerContext, progress: Progress
) -> torch.Tensor:
    """hidden: (tokens, 1, hidden), overwritten. Returns what the context keeps of it behind the
    last layer, before the final norm.
    """
    for index, layer in enumerate(decoder.layers):
        attended, bias = layer.self_attention(
            layer.input_layernorm(hidden), None, inference_context=context
        )
        hidden = context.kept(index, hidden)
        if hidden.size(0):
            _add(hidden, attended, bias)
            _add(hidden, *_mlp(layer.mlp, layer.pre_mlp_layernorm(hidden)))
        progress.tick()
    return hidden


def _add(hidden: torch.Tensor, change: torch.Tensor, bias: torch.Tensor | None) -> None:
    """In place; no layer needs what was there."""
    hidden.add_(change)
    if bias is not None:
        hidden.add_(bias)


def _mlp(mlp: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """megatron's `MLP.forward` without its switches; returns (output, bias not added yet)."""
    inner, bias = project(mlp.linear_fc1, hidden)
    if bias is not None:
        inner = inner + bias
    if mlp.config.gated_linear_unit:
        gate, linear = inner.chunk(2, dim=-1)
        inner = mlp.activation_func(gate).mul_(linear)
    else:
        inner = mlp.activation_func(inner)
    return project(mlp.linear_fc2, inner)
