"""Which rows a forward pass computes, and where their keys and values lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RowBatch:
    """Rows in neighbouring slots that compute equally many positions each.

    Attributes:
        own_starts: tokens of each row's own part that are cached already.
        num_tokens: positions computed now, padding included.
        prefix_slots, prefix_lengths: of each row; a row without a prefix has slot -1, length 0.
    """

    first_slot: int
    own_starts: tuple[int, ...]
    num_tokens: int
    prefix_slots: tuple[int, ...]
    prefix_lengths: tuple[int, ...]

    def part(self, rows: slice) -> RowBatch:
        """Some neighbouring ones of these rows; `rows` has a start."""
        return RowBatch(
            first_slot=self.first_slot + rows.start,
            own_starts=self.own_starts[rows],
            num_tokens=self.num_tokens,
            prefix_slots=self.prefix_slots[rows],
            prefix_lengths=self.prefix_lengths[rows],
        )
