"""Self-attention over our own cache, inside megatron-core's transformer layers.

megatron's projections stay (they are the tensor-parallel part); between them stands a step
context that rotates, caches and attends. One context lives for one forward pass of all layers.
Shapes: megatron's hidden states are (tokens, rows, hidden), attention's (rows, heads, tokens, dim).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from worker.engine.kv_cache import SlotKVCache
from worker.engine.megatron_api import BaseInferenceContext, SelfAttention


class RotaryTable:
    """cos and sin of every position of the context, as Hugging Face's LLaMA computes them."""

    def __init__(
        self, inverse_frequencies: torch.Tensor, scaling: float, num_positions: int
    ) -> None:
        """inverse_frequencies: (head_dim / 2,) float32; both tables: (positions, head_dim)."""
        positions = torch.arange(num_positions, device=inverse_frequencies.device).float()
        angles = positions[:, None] * inverse_frequencies.float()[None]
        angles = torch.cat((angles, angles), dim=-1)
        self.cos = angles.cos() * scaling
        self.sin = angles.sin() * scaling


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding, rotate-half convention. cos, sin broadcast against x in its last dims."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class StepContext(BaseInferenceContext):  # type: ignore[misc]
    """One forward pass. Subclasses say what the tokens of this pass attend to."""

    def __init__(self, cache: SlotKVCache) -> None:
        super().__init__(materialize_only_last_token_logits=True)
        self._cache = cache

    def is_static_batching(self) -> bool:
        return True

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query: (rows, heads, tokens, dim); key, value: (rows, kv_heads, tokens, dim), unrotated.

        Returns (rows, heads, tokens, dim).
        """
        raise NotImplementedError


class PrefillContext(StepContext):
    """Equally long whole prompts into consecutive slots: causal, without any mask."""

    def __init__(
        self, cache: SlotKVCache, rotary: RotaryTable, first_slot: int, num_tokens: int, dtype: Any
    ) -> None:
        super().__init__(cache)
        self._first_slot = first_slot
        self._cos = rotary.cos[:num_tokens].to(dtype)  # (tokens, dim)
        self._sin = rotary.sin[:num_tokens].to(dtype)

    def is_decode_only(self) -> bool:
        return False

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query = rotate(query, self._cos, self._sin)
        key = rotate(key, self._cos, self._sin)
        self._cache.write_prompt(layer, self._first_slot, key, value)
        return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)


class DecodeContext(StepContext):
    """One new token for each row in slots 0 … rows-1, rows of any length.

    A row attends to its own positions only; the mask is left out when all rows are equally long.
    """

    def __init__(
        self, cache: SlotKVCache, rotary: RotaryTable, positions: list[int], dtype: torch.dtype
    ) -> None:
        """positions: each row's new token's place, counted from 0."""
        super().__init__(cache)
        device = rotary.cos.device
        self._positions = torch.tensor(positions, device=device)  # (rows,)
        self._num_tokens = max(positions) + 1
        self._cos = rotary.cos[self._positions][:, None, None].to(dtype)  # (rows, 1, 1, dim)
        self._sin = rotary.sin[self._positions][:, None, None].to(dtype)
        self._mask: torch.Tensor | None = None  # (rows, 1, 1, tokens), True = attend
        if min(positions) != max(positions):
            places = torch.arange(self._num_tokens, device=device)
            self._mask = (places[None] <= self._positions[:, None])[:, None, None]

    def is_decode_only(self) -> bool:
        return True

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        query = rotate(query, self._cos, self._sin)
        key = rotate(key, self._cos, self._sin)
        keys, values = self._cache.append_token(
            layer, self._positions, key[:, :, 0], value[:, :, 0], self._num_tokens
        )
        rows, heads, _, dim = query.shape
        # The heads that share a kv head become its query tokens: keys are never expanded.
        grouped = query.reshape(rows, keys.size(1), heads // keys.size(1), dim)
        attended = scaled_dot_product_attention(grouped, keys, values, attn_mask=self._mask)
        return attended.reshape(rows, heads, 1, dim)


class CachedSelfAttention(SelfAttention):  # type: ignore[misc]
    """megatron's qkv and output projections around a step context's attention."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        inference_context: StepContext,
        **_: Any,  # what else the layer hands down (rotary tensors, packing) is always None here
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        qkv = self.get_query_key_value_tensors(hidden_states)
        # (tokens, rows, heads, dim) -> (rows, heads, tokens, dim)
        query, key, value = (t.permute(1, 2, 0, 3) for t in qkv)
        attended = inference_context.attend(self.layer_number - 1, query, key, value)
        projected: tuple[torch.Tensor, torch.Tensor | None] = self.linear_proj(
            attended.permute(2, 0, 1, 3).flatten(2)
        )
        return projected
