"""Which rows are computed next, and in which cache slots. Pure: no tensors, no clock, no IO.

Every rank runs its own copy on the same commands and so comes to the same plan.

Slots: the active rows always occupy the cache slots 0 … n-1, row `active[i]` slot i. New rows
take the next slots; the slot of a finished row is filled with the last one. So a decode step
reads one dense block of the cache, however rows come and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from worker.engine.protocol import GenerateRequest


@dataclass(slots=True, eq=False)
class Row:
    """A request under way. `ticket` names it across ranks and clients."""

    ticket: int
    request: GenerateRequest
    token_ids: list[int] = field(default_factory=list)

    @property
    def num_prompt_tokens(self) -> int:
        return self.request.num_prompt_tokens

    @property
    def max_tokens(self) -> int:
        """Prompt and answer at their longest: the cache length this row may need."""
        return self.num_prompt_tokens + self.request.sampling.max_new_tokens


@dataclass(frozen=True, slots=True)
class SlotMove:
    """Copy a row's cache from one slot to another; moves are carried out in their order."""

    source: int
    target: int
    row: Row


class Scheduler:
    """First come, first served admission into a batch of at most `max_batch_rows` rows."""

    def __init__(self, max_batch_rows: int, max_prefill_tokens: int) -> None:
        self.max_batch_rows = max_batch_rows
        self._max_prefill_tokens = max_prefill_tokens
        self._waiting: deque[Row] = deque()
        self.active: list[Row] = []

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self.active)

    def add(self, row: Row) -> None:
        """Queue a row behind all others."""
        self._waiting.append(row)

    def take_waiting(self) -> list[Row]:
        """Remove the rows to prefill now: oldest first, as many as slots and tokens allow.

        At least one when a slot is free, however long its prompt. The caller must `activate` or
        forget each.
        """
        taken: list[Row] = []
        num_tokens = 0
        while self._waiting and len(self.active) + len(taken) < self.max_batch_rows:
            num_tokens += self._waiting[0].num_prompt_tokens
            if taken and num_tokens > self._max_prefill_tokens:
                break
            taken.append(self._waiting.popleft())
        return taken

    def activate(self, rows: Sequence[Row]) -> int:
        """Give rows the next free slots, in order; the first of those slots."""
        first_slot = len(self.active)
        if first_slot + len(rows) > self.max_batch_rows:
            raise ValueError(f"{len(rows)} rows do not fit behind {first_slot} active ones")
        self.active.extend(rows)
        return first_slot

    def retire(self, rows: Iterable[Row]) -> list[SlotMove]:
        """Free the slots of finished rows; the moves that keep the others' slots compact."""
        gone = {id(row) for row in rows}
        moves: list[SlotMove] = []
        # From the last slot down, so that the row that fills a hole is never a finished one.
        for slot in range(len(self.active) - 1, -1, -1):
            if id(self.active[slot]) not in gone:
                continue
            last = self.active.pop()
            if slot < len(self.active):
                moves.append(SlotMove(source=len(self.active), target=slot, row=last))
                self.active[slot] = last
        return moves

    def drop(self, tickets: Iterable[int]) -> list[SlotMove]:
        """Forget rows that nobody wants any more, waiting or active."""
        unwanted = set(tickets)
        self._waiting = deque(row for row in self._waiting if row.ticket not in unwanted)
        return self.retire([row for row in self.active if row.ticket in unwanted])


def group_by_prompt_length(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows whose prompts are equally long are prefilled together: no padding, hence no mask."""
    ordered = sorted(rows, key=lambda row: row.num_prompt_tokens)  # stable: age within a length
    return [list(group) for _, group in groupby(ordered, key=lambda row: row.num_prompt_tokens)]
