"""Self-attention over our own cache, inside megatron-core's transformer layers.

megatron's projections stay (they are the tensor-parallel part); between them stand contexts that
rotate, cache and attend. A context lives for one forward pass of all layers and has one segment of
its tokens: equally many of each of some rows. Shapes: (rows, heads, tokens, dim).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.attention.bias import CausalBias, causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from worker.engine.kv_cache import KVCache, SlotPool, slots_of
from worker.engine.row_batch import RowBatch
from worker.engine.shared_prefixes import SharedPrefixes


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

    def at(self, positions: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin at some positions, (…, head_dim) each.

        Padding may stand behind the last position of the context; what it gets has no effect.
        """
        positions = positions.clamp_max(self.cos.size(0) - 1)
        return self.cos[positions].to(dtype), self.sin[positions].to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding, rotate-half convention. cos, sin broadcast against x in its last dims."""
    half = x.size(-1) // 2
    rotated = x * cos
    rotated[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    rotated[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return rotated


class PrefixContext:
    """The next positions of some prefixes, all at the same places: causal over what is there.

    Padding at the end needs no mask, since nothing before it sees it.
    """

    def __init__(
        self,
        pool: SlotPool,
        rotary: RotaryTable,
        slots: Sequence[int],
        start: int,
        num_tokens: int,
        dtype: torch.dtype,
    ) -> None:
        device = rotary.cos.device
        self._pool = pool
        self._slots = slots_of(slots, device)
        self._start = start
        self._stop = start + num_tokens
        places = torch.arange(start, self._stop, device=device)
        self._cos, self._sin = rotary.at(places, dtype)  # (tokens, dim)
        # Named, not written out: flash attention takes no mask tensor, but knows this one.
        self._mask: CausalBias | None = None  # (tokens, tokens so far)
        if start:
            self._mask = causal_lower_right(num_tokens, self._stop)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query: (rows, heads, tokens, dim); key, value: (rows, kv_heads, tokens, dim), unrotated.

        Returns (rows, heads, tokens, dim).
        """
        query, key = rotate(query, self._cos, self._sin), self.store(layer, key, value)
        if self._mask is None:
            return scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        keys, values = self._pool.read(layer, self._slots, self._stop)
        return scaled_dot_product_attention(
            query, keys, values, attn_mask=self._mask, enable_gqa=True
        )

    def store(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Cache (prefixes, kv_heads, tokens, dim) each; returns the keys rotated."""
        key = rotate(key, self._cos, self._sin)
        self._pool.write(layer, self._slots, self._start, key, value)
        return key


class RowContext:
    """The rows' own next positions: the first ones of a prompt's own part, or one new token a row.

    A row attends to its prefix and, causally, to its own tokens. The rows that share a prefix are
    one another's query tokens there, so its keys and values are read once for all of them.
    """

    def __init__(
        self, cache: KVCache, rotary: RotaryTable, batch: RowBatch, dtype: torch.dtype
    ) -> None:
        device = rotary.cos.device
        self._pool = cache.rows
        num_rows = len(batch.own_starts)
        self._slots = slice(batch.first_slot, batch.first_slot + num_rows)
        self._num_own = max(batch.own_starts) + batch.num_tokens
        starts = torch.tensor(batch.own_starts, device=device)
        # Places within the own part and, behind the prefix, in the whole row: (rows, tokens).
        places = starts[:, None] + torch.arange(batch.num_tokens, device=device)
        positions = places + torch.tensor(batch.prefix_lengths, device=device)[:, None]
        cos, sin = rotary.at(positions, dtype)
        self._cos, self._sin = cos[:, None], sin[:, None]  # (rows, 1, tokens, dim)
        # One new token a row goes to a place of its own; a prompt's own part begins at place 0.
        self._append_to: tuple[torch.Tensor, torch.Tensor] | None = None
        if batch.num_tokens == 1:
            slots = torch.arange(self._slots.start, self._slots.stop, device=device)
            self._append_to = slots, starts
        elif any(batch.own_starts):
            raise ValueError("several tokens a row can only be the first ones")
        # (rows, 1, 1, tokens, own tokens), True = attend; None where all is attended to.
        self._mask: torch.Tensor | None = None
        if batch.num_tokens > 1 or min(batch.own_starts) != max(batch.own_starts):
            own = torch.arange(self._num_own, device=device)
            self._mask = (own <= places[..., None])[:, None, None]
        self._shared = SharedPrefixes.of(batch, cache.prefixes, device)

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query: (rows, heads, tokens, dim); key, value: (rows, kv_heads, tokens, dim), unrotated.

        Returns (rows, heads, tokens, dim).
        """
        query = rotate(query, self._cos, self._sin)
        key = rotate(key, self._cos, self._sin)
        if self._append_to is None:
            self._pool.write(layer, self._slots, 0, key, value)
        else:
            self._pool.append(layer, *self._append_to, key[:, :, 0], value[:, :, 0])
        keys, values = self._pool.read(layer, self._slots, self._num_own)
        rows, heads, tokens, dim = query.shape
        # The heads that share a kv head become its query tokens: keys are never expanded.
        grouped = query.reshape(rows, keys.size(1), -1, dim) * dim**-0.5
        scores = grouped @ keys.transpose(-1, -2)  # (rows, kv_heads, queries, own)
        if self._mask is not None:
            by_token = scores.view(rows, keys.size(1), -1, tokens, self._num_own)
            by_token.masked_fill_(~self._mask, float("-inf"))
        if self._shared is None:
            attended = _softmax(scores) @ values
        else:
            attended = self._shared.attend(layer, grouped, scores, values)
        return attended.reshape(rows, heads, tokens, dim)


def _softmax(scores: torch.Tensor) -> torch.Tensor:
    return scores.softmax(dim=-1, dtype=torch.float32).to(scores.dtype)
