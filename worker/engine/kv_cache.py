"""Keys and values: a pool of slots for shared beginnings of prompts, one for the rows' own rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from worker.engine.cache_budget import CacheNeed


@dataclass(slots=True)
class _LayerCache:
    """Both (slots, kv_heads, tokens, head_dim)."""

    keys: torch.Tensor
    values: torch.Tensor


class SlotPool:
    """Equally long slots of every layer; keys are stored rotated.

    The unit is the slot. The scheduler owns the question what lies in which slot; this class only
    keeps tensors. What no one has written yet is zero, so that a masked place, which is multiplied
    by a weight of 0, never holds a stray NaN.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """`num_kv_heads` counts this rank's heads. Nothing is allocated before `resize`."""
        self.num_slots = 0
        self.num_tokens = 0
        self.num_bytes = 0  # memory held on this rank
        empty = torch.empty((0, num_kv_heads, 0, head_dim), dtype=dtype, device=device)
        self._layers = [_LayerCache(empty, empty) for _ in range(num_layers)]

    def resize(self, num_slots: int, num_tokens: int) -> None:
        """Make it that many slots of that many tokens; what is stored and still has a place stays.

        Layer by layer, so that at most one layer's tensor exists twice.
        """
        if (num_slots, num_tokens) == (self.num_slots, self.num_tokens):
            return
        for cache in self._layers:
            cache.keys = self._resized(cache.keys, num_slots, num_tokens)
            cache.values = self._resized(cache.values, num_slots, num_tokens)
        self.num_slots, self.num_tokens = num_slots, num_tokens
        self.num_bytes = sum(c.keys.nbytes + c.values.nbytes for c in self._layers)

    def _resized(self, old: torch.Tensor, num_slots: int, num_tokens: int) -> torch.Tensor:
        new = old.new_zeros((num_slots, old.size(1), num_tokens, old.size(3)))
        slots, tokens = min(num_slots, self.num_slots), min(num_tokens, self.num_tokens)
        new[:slots, :, :tokens] = old[:slots, :, :tokens]
        return new

    def write(
        self,
        layer: int,
        slots: slice | torch.Tensor,
        start: int,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Store equally many tokens a slot from place `start` on.

        keys, values: (slots, kv_heads, tokens, head_dim).
        """
        cache = self._layers[layer]
        stop = start + keys.size(2)
        cache.keys[slots, :, start:stop] = keys
        cache.values[slots, :, start:stop] = values

    def append(
        self,
        layer: int,
        slots: torch.Tensor,
        places: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
    ) -> None:
        """Store one token a slot, each at its own place.

        slots, places: (rows,). keys, values: (rows, kv_heads, head_dim).
        """
        cache = self._layers[layer]
        cache.keys[slots, :, places] = keys
        cache.values[slots, :, places] = values

    def read(
        self, layer: int, slots: slice | torch.Tensor, num_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `num_tokens` of some slots, (slots, kv_heads, num_tokens, head_dim) each.

        Views for a slice, copies for an index.
        """
        cache = self._layers[layer]
        return cache.keys[slots, :, :num_tokens], cache.values[slots, :, :num_tokens]

    def move(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first `num_tokens` of a slot over another slot."""
        for cache in self._layers:
            cache.keys[target, :, :num_tokens] = cache.keys[source, :, :num_tokens]
            cache.values[target, :, :num_tokens] = cache.values[source, :, :num_tokens]

    def swap(self, one: int, other: int, num_tokens: int) -> None:
        """Exchange the first `num_tokens` of two slots."""
        pair, reverse = [one, other], [other, one]
        for cache in self._layers:
            cache.keys[pair, :, :num_tokens] = cache.keys[reverse, :, :num_tokens]
            cache.values[pair, :, :num_tokens] = cache.values[reverse, :, :num_tokens]

    def clear(self, slot: int) -> None:
        """Zero a slot that may hold values that are not finite, which no mask would hide."""
        for cache in self._layers:
            cache.keys[slot].zero_()
            cache.values[slot].zero_()


class KVCache:
    """The two pools, within one budget of tokens (`cache_budget`).

    A pool grows ahead of need (slots double) while both fit; else both are cut to the need.
    """

    def __init__(self, prefixes: SlotPool, rows: SlotPool, max_tokens: int) -> None:
        self.prefixes = prefixes
        self.rows = rows
        self._max_tokens = max_tokens

    @property
    def num_bytes(self) -> int:
        """Memory held on this rank."""
        return self.prefixes.num_bytes + self.rows.num_bytes

    def reserve(self, need: CacheNeed) -> None:
        """Make room for what the scheduler has admitted.

        Raises:
            ValueError: that is more than the budget.
        """
        if need.num_tokens > self._max_tokens:
            raise ValueError(f"{need.num_tokens} cached tokens asked for, {self._max_tokens} exist")
        grown = CacheNeed(
            num_prefixes=_grown(self.prefixes.num_slots, need.num_prefixes),
            prefix_tokens=max(self.prefixes.num_tokens, need.prefix_tokens),
            num_rows=_grown(self.rows.num_slots, need.num_rows),
            row_tokens=max(self.rows.num_tokens, need.row_tokens),
        )
        if grown.num_tokens > self._max_tokens:
            grown = need
        self.prefixes.resize(grown.num_prefixes, grown.prefix_tokens)
        self.rows.resize(grown.num_rows, grown.row_tokens)


def _grown(now: int, needed: int) -> int:
    return now if needed <= now else max(needed, 2 * now)


def slots_of(indices: Sequence[int], device: torch.device) -> slice | torch.Tensor:
    """A slice where the slots follow each other, so that reading them copies nothing."""
    first = indices[0]
    if list(indices) == list(range(first, first + len(indices))):
        return slice(first, first + len(indices))
    return torch.tensor(indices, device=device)
