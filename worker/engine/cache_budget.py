"""How many tokens the KV cache holds, and how many a batch needs. Pure, no torch.

The unit is the token: one position's keys and values in all layers, on one rank. Pools are dense,
so a pool costs its slots times its longest one.
"""

from __future__ import annotations

from dataclasses import dataclass

TOKEN_STEP = 64  # slots are this many tokens long, or a multiple: fewer reallocations


def rounded(num_tokens: int) -> int:
    """The length of a slot that holds that many tokens."""
    return -(-num_tokens // TOKEN_STEP) * TOKEN_STEP


@dataclass(frozen=True, slots=True)
class CacheNeed:
    """Slots and slot lengths of both pools."""

    num_prefixes: int
    prefix_tokens: int
    num_rows: int
    row_tokens: int

    @property
    def num_tokens(self) -> int:
        return self.num_prefixes * self.prefix_tokens + self.num_rows * self.row_tokens
