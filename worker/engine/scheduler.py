"""Which rows are computed next, and in which cache slots. Pure: no tensors, no clock, no IO.

Every rank runs its own copy on the same commands and so comes to the same plan.

A row waits, is admitted (its cache memory is counted from then on; its prefix is computed, piece by
piece, unless it is there already), and becomes active when its own part of the prompt is computed.
The active rows always occupy the row slots 0 … n-1, row `active[i]` slot i. New rows take the next
slots; the slot of a finished row is filled with the last one. So a decode step reads one dense
block of the cache, however rows come and go.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from worker.engine.cache_budget import CacheNeed, rounded
from worker.engine.prefixes import Prefix, PrefixKey, PrefixTable, prefix_of
from worker.engine.protocol import GenerateRequest

LENGTH_BUCKET = 8  # tokens; pieces of prompts are padded to a multiple of it and so share a pass


@dataclass(frozen=True, slots=True)
class PrefillLimits:
    """How much prompt is computed between two tokens of the active rows.

    Attributes:
        step_tokens: positions in one step at most, padding included (one piece may exceed it).
        piece_tokens: positions of one prompt in one pass at most; an eighth more if it is the rest.
            Where a prompt is cut follows from this alone, whoever its neighbours are.
        cache_tokens: what the KV cache may hold (`cache_budget`).
    """

    step_tokens: int
    piece_tokens: int
    cache_tokens: int


@dataclass(slots=True, eq=False)
class Row:
    """A request under way.

    Attributes:
        ticket: names it across ranks and clients.
        prefix: from its admission on, if it has one.
        need: the slot lengths that it takes, once it is queued (`tokens_needed`).
        logprobs, all_logprobs: one entry a token where the request asked for them (the sampler's).
    """

    ticket: int
    request: GenerateRequest
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    all_logprobs: list[tuple[float, ...]] = field(default_factory=list)
    prefix: Prefix | None = None
    need: tuple[int, int] = (0, 0)

    @property
    def num_prompt_tokens(self) -> int:
        return self.request.num_prompt_tokens

    @property
    def num_prefix_tokens(self) -> int:
        return self.prefix.num_tokens if self.prefix is not None else 0

    @property
    def num_own_prompt_tokens(self) -> int:
        return self.num_prompt_tokens - self.num_prefix_tokens

    @property
    def is_ready(self) -> bool:
        """What stands before the row's own part is computed."""
        return self.prefix is None or self.prefix.is_ready

    @property
    def num_own_cached(self) -> int:
        """Own tokens whose keys and values are in the row's slot; the newest token's are not."""
        return self.num_own_prompt_tokens + len(self.token_ids) - 1 if self.token_ids else 0


@dataclass(frozen=True, slots=True)
class SlotMove:
    """Copy a row's cache from one slot to another; moves are carried out in their order."""

    source: int
    target: int
    row: Row


@dataclass(frozen=True, slots=True)
class Piece:
    """Some positions of a prefix, from `start` on; computed padded to `width`."""

    prefix: Prefix
    start: int
    num_tokens: int

    @property
    def width(self) -> int:
        return bucketed(self.num_tokens)


def bucketed(num_tokens: int) -> int:
    """The padded length of a piece of prompt."""
    return -(-num_tokens // LENGTH_BUCKET) * LENGTH_BUCKET


def tokens_needed(request: GenerateRequest, piece_tokens: int) -> tuple[int, int]:
    """Slot lengths that a request needs: for its prefix (0 without one) and for its own part."""
    key = prefix_of(request, piece_tokens)
    num_prefix = key.num_tokens if key is not None else 0
    num_own = request.num_prompt_tokens - num_prefix
    own_need = max(bucketed(num_own), num_own + request.sampling.max_new_tokens)
    return rounded(bucketed(num_prefix)), rounded(own_need)


class Scheduler:
    """First come, first served admission into a batch of at most `max_batch_rows` rows."""

    def __init__(self, max_batch_rows: int, limits: PrefillLimits) -> None:
        self.max_batch_rows = max_batch_rows
        self.limits = limits
        self.prefixes = PrefixTable()
        self._waiting: deque[Row] = deque()
        self._admitted: list[Row] = []
        self.active: list[Row] = []

    @property
    def num_waiting(self) -> int:
        """Rows that have no token yet."""
        return len(self._waiting) + len(self._admitted)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._admitted or self.active)

    def add(self, row: Row) -> None:
        """Queue a row behind all others."""
        row.need = tokens_needed(row.request, self.limits.piece_tokens)
        self._waiting.append(row)

    # ---- admission ----

    def admit(self) -> CacheNeed:
        """Take waiting rows, oldest first, while there are slots and cache memory for them.

        Unused prefixes give way. Returns what the cache must have room for.
        """
        while self._waiting and len(self.active) + len(self._admitted) < self.max_batch_rows:
            row = self._waiting[0]
            key = prefix_of(row.request, self.limits.piece_tokens)
            if not self._make_room(row, key):
                break
            self._waiting.popleft()
            if key is not None:
                row.prefix = self.prefixes.acquire(key, row.request)
            self._admitted.append(row)
        self.prefixes.compact()
        return self._need([*self._admitted, *self.active], len(self.prefixes), 0)

    def _make_room(self, row: Row, key: PrefixKey | None) -> bool:
        """Whether the row fits beside the others, after forgetting unused prefixes if it must."""
        rows = [*self._admitted, *self.active, row]
        is_compact = False
        while True:
            num_slots, num_new_tokens = len(self.prefixes), 0
            if key is not None and self.prefixes.find(key) is None:
                num_slots = max(num_slots, self.prefixes.next_slot() + 1)
                num_new_tokens = row.need[0]
            if self._need(rows, num_slots, num_new_tokens).num_tokens <= self.limits.cache_tokens:
                return True
            if self.prefixes.evict_one():
                continue
            if is_compact:
                return False
            self.prefixes.compact(fully=True)
            is_compact = True

    def _need(self, rows: Sequence[Row], num_prefixes: int, new_prefix_tokens: int) -> CacheNeed:
        longest = rounded(bucketed(self.prefixes.longest()))
        return CacheNeed(
            num_prefixes=num_prefixes,
            prefix_tokens=max(longest, new_prefix_tokens),
            num_rows=len(rows),
            row_tokens=max((row.need[1] for row in rows), default=0),
        )

    # ---- prefill ----

    def next_pieces(self, num_tokens: int) -> list[Piece]:
        """The next piece of each unfinished prefix, oldest row's first, within `num_tokens`.

        At least one, however long, unless `num_tokens` is not positive.
        """
        pieces: list[Piece] = []
        if num_tokens <= 0:
            return pieces
        seen: set[int] = set()
        for row in self._admitted:
            prefix = row.prefix
            if prefix is None or prefix.is_ready or id(prefix) in seen:
                continue
            seen.add(id(prefix))
            start = prefix.num_computed
            left = prefix.num_tokens - start
            # A short rest joins the piece before it: its own pass would cost far more than it.
            at_most = self.limits.piece_tokens
            piece = Piece(prefix, start, left if left <= at_most * 9 // 8 else at_most)
            num_tokens -= piece.width
            if num_tokens < 0 and pieces:
                break
            pieces.append(piece)
        return pieces

    def num_ready_tokens(self) -> int:
        """What the own parts take of all admitted rows that only wait for them."""
        return sum(bucketed(row.num_own_prompt_tokens) for row in self._admitted if row.is_ready)

    def take_ready(self, num_tokens: int, *, at_least_one: bool) -> list[Row]:
        """Remove the admitted rows whose own part can be computed now, within `num_tokens`.

        The caller must `activate` or `release` each.
        """
        taken: list[Row] = []
        for row in self._admitted:
            if not row.is_ready:
                continue
            num_tokens -= bucketed(row.num_own_prompt_tokens)
            if num_tokens < 0 and (taken or not at_least_one):
                break
            taken.append(row)
        self._forget_admitted(taken)
        return taken

    def take_users(self, prefix: Prefix) -> list[Row]:
        """Remove the admitted rows of a prefix that can't be computed; it is not found any more."""
        self.prefixes.forget(prefix)
        users = [row for row in self._admitted if row.prefix is prefix]
        self._forget_admitted(users)
        self.release(users)
        return users

    def release(self, rows: Iterable[Row]) -> None:
        """Rows that were taken, and will not be active (any more), need their prefix no longer."""
        for row in rows:
            if row.prefix is not None:
                self.prefixes.release(row.prefix)

    def _forget_admitted(self, rows: Iterable[Row]) -> None:
        gone = {id(row) for row in rows}
        self._admitted = [row for row in self._admitted if id(row) not in gone]

    # ---- active rows ----

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
            finished = self.active[slot]
            if id(finished) not in gone:
                continue
            last = self.active.pop()
            if slot < len(self.active):
                moves.append(SlotMove(source=len(self.active), target=slot, row=last))
                self.active[slot] = last
            self.release([finished])
        return moves

    def drop(self, tickets: Iterable[int]) -> list[SlotMove]:
        """Forget rows that nobody wants any more, in whatever state they are."""
        unwanted = set(tickets)
        self._waiting = deque(row for row in self._waiting if row.ticket not in unwanted)
        admitted = [row for row in self._admitted if row.ticket in unwanted]
        self._forget_admitted(admitted)
        self.release(admitted)
        return self.retire([row for row in self.active if row.ticket in unwanted])


def group_pieces(pieces: Iterable[Piece]) -> list[list[Piece]]:
    """Pieces that begin and end at the same places go through the model together."""
    ordered = sorted(pieces, key=_piece_place)  # stable: age within a place
    return [list(group) for _, group in groupby(ordered, key=_piece_place)]


def _piece_place(piece: Piece) -> tuple[int, int]:
    return piece.start, piece.width


def group_rows(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows whose own parts have the same padded length are computed together.

    Those without a prefix apart: side by side with a prefix of this pass they would read it, all
    masked, and what is masked must at least be finite.
    """
    ordered = sorted(rows, key=_own_width)  # stable: age within a length
    return [list(group) for _, group in groupby(ordered, key=_own_width)]


def _own_width(row: Row) -> tuple[bool, int]:
    return row.prefix is not None, bucketed(row.num_own_prompt_tokens)
