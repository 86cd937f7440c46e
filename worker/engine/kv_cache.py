"""Keys and values of the active rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_TOKEN_STEP = 128


@dataclass(slots=True)
class _LayerCache:
    """Both (slots, kv_heads, tokens, head_dim)."""

    keys: torch.Tensor
    values: torch.Tensor


class SlotKVCache:
    """One slot a row, all slots equally long; keys are stored rotated.

    The unit is the slot. `Scheduler` owns the question which row has which slot; this class only
    keeps tensors. Nothing is allocated until `reserve`; memory then grows in steps of rows
    (doubling, at most `max_rows`) and of tokens, and is kept for later rows. Never more than
    max_rows × the longest row so far, rounded up.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        max_rows: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`num_kv_heads` counts this rank's heads."""
        self._max_rows = max_rows
        self.num_slots = 0
        self.num_tokens = 0
        empty = torch.empty((0, num_kv_heads, 0, head_dim), dtype=dtype, device=device)
        self._layers = [_LayerCache(empty, empty) for _ in range(num_layers)]

    @property
    def num_bytes(self) -> int:
        """Memory held on this rank."""
        return sum(c.keys.nbytes + c.values.nbytes for c in self._layers)

    def reserve(self, num_slots: int, num_tokens: int) -> None:
        """Make room for that many slots of that many tokens; what is stored stays.

        `num_slots` must not exceed `max_rows`.
        """
        if num_slots > self._max_rows:
            raise ValueError(f"{num_slots} slots asked for, at most {self._max_rows} exist")
        if num_slots <= self.num_slots and num_tokens <= self.num_tokens:
            return
        if num_slots > self.num_slots:
            num_slots = min(self._max_rows, max(num_slots, 2 * self.num_slots))
        new_slots = max(num_slots, self.num_slots)
        new_tokens = max(-(-num_tokens // _TOKEN_STEP) * _TOKEN_STEP, self.num_tokens)
        for cache in self._layers:  # layer by layer: at most one layer exists twice
            cache.keys = self._grown(cache.keys, new_slots, new_tokens)
            cache.values = self._grown(cache.values, new_slots, new_tokens)
        self.num_slots, self.num_tokens = new_slots, new_tokens

    def _grown(self, old: torch.Tensor, num_slots: int, num_tokens: int) -> torch.Tensor:
        # Zeros: a masked place is multiplied by a weight of 0, and 0 × stray NaN would be NaN.
        new = old.new_zeros((num_slots, old.size(1), num_tokens, old.size(3)))
        new[: self.num_slots, :, : self.num_tokens] = old
        return new

    def write_prompt(
        self, layer: int, first_slot: int, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Store whole prompts. keys, values: (rows, kv_heads, prompt tokens, head_dim)."""
        num_rows, _, num_tokens, _ = keys.shape
        cache = self._layers[layer]
        cache.keys[first_slot : first_slot + num_rows, :, :num_tokens] = keys
        cache.values[first_slot : first_slot + num_rows, :, :num_tokens] = values

    def append_token(
        self,
        layer: int,
        positions: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        num_tokens: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one token a row in slots 0 … rows-1; all keys and values up to `num_tokens`.

        positions: (rows,). keys, values: (rows, kv_heads, head_dim).
        Returns two views (rows, kv_heads, num_tokens, head_dim).
        """
        num_rows = positions.size(0)
        cache = self._layers[layer]
        slots = torch.arange(num_rows, device=positions.device)
        cache.keys[slots, :, positions] = keys
        cache.values[slots, :, positions] = values
        return cache.keys[:num_rows, :, :num_tokens], cache.values[:num_rows, :, :num_tokens]

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first `num_tokens` of a slot over another slot."""
        for cache in self._layers:
            cache.keys[target, :, :num_tokens] = cache.keys[source, :, :num_tokens]
            cache.values[target, :, :num_tokens] = cache.values[source, :, :num_tokens]

    def clear(self, slot: int) -> None:
        """Zero a slot that may hold values that are not finite, which no mask would hide."""
        for cache in self._layers:
            cache.keys[slot].zero_()
            cache.values[slot].zero_()
