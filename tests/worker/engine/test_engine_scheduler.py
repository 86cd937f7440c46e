from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.request_examples import text_request
from worker.engine.scheduler import Row, Scheduler, SlotMove, group_by_prompt_length


def row(ticket: int, num_prompt_tokens: int = 4) -> Row:
    return Row(ticket, text_request(f"row {ticket}", num_prompt_tokens))


class FakeCache:
    """Remembers whose values each slot holds."""

    def __init__(self, num_slots: int) -> None:
        self.slots: list[int | None] = [None] * num_slots

    def fill(self, first_slot: int, rows: list[Row]) -> None:
        for slot, new in enumerate(rows, first_slot):
            self.slots[slot] = new.ticket

    def move(self, moves: list[SlotMove]) -> None:
        for move in moves:
            assert self.slots[move.source] == move.row.ticket
            self.slots[move.target] = self.slots[move.source]
            self.slots[move.source] = None


@given(data=st.data(), max_batch_rows=st.integers(1, 6), max_prefill_tokens=st.integers(1, 30))
def test_slots_stay_compact_and_each_row_stays_with_its_values(
    data: st.DataObject, max_batch_rows: int, max_prefill_tokens: int
) -> None:
    scheduler = Scheduler(max_batch_rows, max_prefill_tokens)
    cache = FakeCache(max_batch_rows)
    waiting: list[int] = []
    num_rows = 0
    for _ in range(data.draw(st.integers(1, 12), "steps")):
        for length in data.draw(st.lists(st.integers(1, 12), max_size=5), "arrivals"):
            scheduler.add(row(num_rows, length))
            waiting.append(num_rows)
            num_rows += 1

        num_free = max_batch_rows - len(scheduler.active)
        taken = scheduler.take_waiting()
        assert [r.ticket for r in taken] == waiting[: len(taken)]  # first come, first served
        assert len(taken) <= num_free
        assert bool(taken) == bool(waiting and num_free)
        assert len(taken) < 2 or sum(r.num_prompt_tokens for r in taken) <= max_prefill_tokens
        del waiting[: len(taken)]
        for group in group_by_prompt_length(taken):
            cache.fill(scheduler.activate(group), group)

        tickets = [r.ticket for r in scheduler.active]
        ended = data.draw(st.sets(st.sampled_from(tickets)) if tickets else st.just(set()), "ended")
        if data.draw(st.booleans(), "by the client"):
            unwanted = ended | set(waiting[:1])
            moves = scheduler.drop(unwanted)
            waiting = waiting[1:]
        else:
            moves = scheduler.retire([r for r in scheduler.active if r.ticket in ended])
        cache.move(moves)
        assert len(moves) <= len(ended)
        assert {r.ticket for r in scheduler.active} == set(tickets) - ended
        assert cache.slots[: len(scheduler.active)] == [r.ticket for r in scheduler.active]
        assert scheduler.num_waiting == len(waiting)
        assert scheduler.has_work == bool(waiting or scheduler.active)


def test_the_last_row_fills_the_hole_of_a_finished_one() -> None:
    scheduler = Scheduler(4, 100)
    rows = [row(i) for i in range(4)]
    scheduler.activate(rows)
    assert scheduler.retire([rows[0], rows[3]]) == [SlotMove(2, 0, rows[2])]
    assert scheduler.active == [rows[2], rows[1]]


def test_one_row_is_taken_however_long_its_prompt() -> None:
    scheduler = Scheduler(4, max_prefill_tokens=10)
    for ticket, length in enumerate((50, 4, 4, 4)):
        scheduler.add(row(ticket, length))
    assert [r.ticket for r in scheduler.take_waiting()] == [0]
    assert [r.ticket for r in scheduler.take_waiting()] == [1, 2]


def test_rows_of_one_length_are_grouped_in_their_order() -> None:
    rows = [row(0, 7), row(1, 5), row(2, 7), row(3, 5)]
    groups = group_by_prompt_length(rows)
    assert [[r.ticket for r in group] for group in groups] == [[1, 3], [0, 2]]


def test_more_rows_than_slots_are_refused() -> None:
    with pytest.raises(ValueError, match="3 rows do not fit"):
        Scheduler(2, 100).activate([row(0), row(1), row(2)])
