from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.request_examples import media_request, text_request
from worker.engine.cache_budget import CacheNeed
from worker.engine.prefixes import PrefixKey, PrefixSwap
from worker.engine.protocol import GenerateRequest
from worker.engine.scheduler import (
    PrefillLimits,
    Row,
    Scheduler,
    SlotMove,
    group_pieces,
    group_rows,
    tokens_needed,
)

PLENTY = PrefillLimits(step_tokens=10_000, piece_tokens=512, cache_tokens=10**9)


def row(ticket: int, num_prompt_tokens: int = 4) -> Row:
    return Row(ticket, text_request(f"row {ticket}", num_prompt_tokens))


@dataclass
class FakeCache:
    """Remembers whose values each slot holds, and how many tokens of a prefix are there."""

    rows: list[int | None] = field(default_factory=list)
    prefixes: list[tuple[PrefixKey | None, int]] = field(default_factory=list)

    def reserve(self, need: CacheNeed) -> None:
        self.rows = (self.rows + [None] * need.num_rows)[: need.num_rows]
        self.prefixes = (self.prefixes + [(None, 0)] * need.num_prefixes)[: need.num_prefixes]

    def move(self, moves: Sequence[SlotMove]) -> None:
        for move in moves:
            assert self.rows[move.source] == move.row.ticket
            self.rows[move.target] = self.rows[move.source]
            self.rows[move.source] = None

    def swap(self, swaps: list[PrefixSwap]) -> None:
        for swap in swaps:
            one, other = self.prefixes[swap.one], self.prefixes[swap.other]
            self.prefixes[swap.one], self.prefixes[swap.other] = other, one
        swaps.clear()


def advance(scheduler: Scheduler, cache: FakeCache) -> None:
    """What `Engine.step` plans, on the fake cache."""
    limits = scheduler.limits
    need = scheduler.admit()
    assert need.num_tokens <= limits.cache_tokens
    cache.swap(scheduler.prefixes.swaps)
    cache.reserve(need)
    left = limits.step_tokens - scheduler.num_ready_tokens()
    pieces = scheduler.next_pieces(left)
    num_tokens = sum(piece.width for piece in pieces)
    assert len(pieces) < 2 or num_tokens <= left
    for group in group_pieces(pieces):
        assert len({(piece.start, piece.width) for piece in group}) == 1
        for piece in group:
            prefix = piece.prefix
            is_rest = piece.start + piece.num_tokens == prefix.num_tokens
            most = limits.piece_tokens * 9 // 8 if is_rest else limits.piece_tokens
            assert piece.num_tokens <= most
            if piece.start:
                assert cache.prefixes[prefix.slot] == (prefix.key, piece.start)
            prefix.num_computed += piece.num_tokens
            cache.prefixes[prefix.slot] = (prefix.key, prefix.num_computed)
    ready = scheduler.take_ready(limits.step_tokens - num_tokens, at_least_one=not pieces)
    for group in group_rows(ready):
        first_slot = scheduler.activate(group)
        for slot, new in enumerate(group, first_slot):
            cache.rows[slot] = new.ticket


def request_of(kind: int, length: int) -> GenerateRequest:
    """Text, or one of some questions about one of three videos."""
    if kind == 0:
        return text_request("text", length)
    return media_request("question", f"video {kind}", num_media_tokens=20, num_after=length)


@given(
    data=st.data(),
    max_batch_rows=st.integers(1, 6),
    step_tokens=st.integers(1, 60),
    piece_tokens=st.integers(1, 30),
    cache_tokens=st.sampled_from([3 * 64, 5 * 64, 10**6]),
)
def test_slots_stay_compact_and_each_row_stays_with_its_values(
    data: st.DataObject,
    max_batch_rows: int,
    step_tokens: int,
    piece_tokens: int,
    cache_tokens: int,
) -> None:
    scheduler = Scheduler(max_batch_rows, PrefillLimits(step_tokens, piece_tokens, cache_tokens))
    cache = FakeCache()
    alive: list[int] = []
    num_rows = 0

    def check() -> None:
        assert cache.rows[: len(scheduler.active)] == [r.ticket for r in scheduler.active]
        for active in scheduler.active:
            if active.prefix is not None:
                key, num_tokens = cache.prefixes[active.prefix.slot]
                assert (key, num_tokens) == (active.prefix.key, active.prefix.num_tokens)

    for _ in range(data.draw(st.integers(1, 15), "steps")):
        arrivals = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), max_size=5)
        for kind, length in data.draw(arrivals, "arrivals"):
            request = request_of(kind, length)
            if sum(tokens_needed(request, piece_tokens)) > cache_tokens:
                continue  # admission refuses it
            scheduler.add(Row(num_rows, request))
            alive.append(num_rows)
            num_rows += 1
        advance(scheduler, cache)
        check()
        tickets = [r.ticket for r in scheduler.active]
        assert tickets or not scheduler.has_work or scheduler.num_waiting
        assert len(tickets) <= max_batch_rows
        ended = data.draw(st.sets(st.sampled_from(tickets)) if tickets else st.just(set()), "ended")
        if data.draw(st.booleans(), "by the client"):
            others = [ticket for ticket in alive if ticket not in tickets]
            ended |= set(others[:2])
            cache.move(scheduler.drop(ended))
        else:
            cache.move(scheduler.retire([r for r in scheduler.active if r.ticket in ended]))
        cache.swap(scheduler.prefixes.swaps)
        alive = [ticket for ticket in alive if ticket not in ended]
        check()
        assert len(scheduler.active) + scheduler.num_waiting == len(alive)

    # Whatever came, everything that is left gets its turn, in the order of its coming.
    for _ in range(1000):
        if not scheduler.has_work:
            break
        advance(scheduler, cache)
        check()
        cache.move(scheduler.retire(list(scheduler.active)))
        cache.swap(scheduler.prefixes.swaps)
    assert not scheduler.has_work
    assert scheduler.prefixes.num_used == 0


def test_the_last_row_fills_the_hole_of_a_finished_one() -> None:
    scheduler = Scheduler(4, PLENTY)
    rows = [row(i) for i in range(4)]
    scheduler.activate(rows)
    assert scheduler.retire([rows[0], rows[3]]) == [SlotMove(2, 0, rows[2])]
    assert scheduler.active == [rows[2], rows[1]]


def test_one_row_is_taken_however_long_its_own_part() -> None:
    scheduler = Scheduler(4, PLENTY)
    for ticket, length in enumerate((50, 4, 4, 4)):
        scheduler.add(row(ticket, length))
    scheduler.admit()
    assert [r.ticket for r in scheduler.take_ready(16, at_least_one=True)] == [0]
    assert [r.ticket for r in scheduler.take_ready(16, at_least_one=True)] == [1, 2]


def test_rows_of_one_padded_length_are_grouped_in_their_order() -> None:
    rows = [row(0, 7), row(1, 15), row(2, 5), row(3, 9)]
    assert [[r.ticket for r in group] for group in group_rows(rows)] == [[0, 2], [1, 3]]


def test_more_rows_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows do not fit"):
        Scheduler(2, PLENTY).activate([row(0), row(1), row(2)])


def test_a_prefix_is_cut_at_the_same_places_whoever_else_is_there() -> None:
    def starts(others: int) -> list[int]:
        scheduler = Scheduler(8, PrefillLimits(40, 16, 10**6))
        scheduler.add(Row(0, media_request("a", "video", num_media_tokens=50)))
        for ticket in range(1, 1 + others):
            scheduler.add(Row(ticket, media_request("b", f"other {ticket}", num_media_tokens=33)))
        found = []
        for _ in range(20):
            scheduler.admit()
            for piece in scheduler.next_pieces(40):
                if piece.prefix.key.media_key == "video":
                    found.append(piece.start)
                piece.prefix.num_computed += piece.num_tokens
            scheduler.take_ready(10**6, at_least_one=True)
        return found

    assert starts(0) == starts(3) == [0, 16, 32, 48]


def test_rows_wait_for_cache_memory_and_unused_prefixes_give_way() -> None:
    # Each video's prefix takes 64 tokens, each row's own part 64.
    scheduler = Scheduler(8, PrefillLimits(1000, 512, cache_tokens=4 * 64))
    cache = FakeCache()
    for ticket, video in enumerate(("a", "a", "b", "c")):
        scheduler.add(Row(ticket, media_request("q", video, num_media_tokens=20)))
    advance(scheduler, cache)
    # a's prefix and two rows are three slots; b's would make five.
    assert [r.ticket for r in scheduler.active] == [0, 1]
    assert scheduler.num_waiting == 2
    scheduler.retire(scheduler.active[:1])
    advance(scheduler, cache)
    # a's second row and b's: two prefixes, two rows.
    assert [r.ticket for r in scheduler.active] == [1, 2]
    scheduler.retire(list(scheduler.active))
    assert len(scheduler.prefixes) == 2  # kept for the next question, then given up for c's
    advance(scheduler, cache)
    assert [r.ticket for r in scheduler.active] == [3]
