from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from neva.ledger.attempts import PastAttempt, plan_attempt

ROWS = tuple("abcdefgh")


def past(number: int, rows: str, finished: str = "", counts: bool = True) -> PastAttempt:
    return PastAttempt(number, tuple(rows), frozenset(finished), counts)


def test_the_first_attempt_takes_every_row() -> None:
    plan = plan_attempt(ROWS, [], 3)
    assert (plan.number, plan.window, plan.give_up) == (1, ROWS, ())


def test_the_next_attempt_takes_only_what_is_missing() -> None:
    plan = plan_attempt(ROWS, [past(1, "abcdefgh", "abd")], 3)
    assert (plan.number, plan.window) == (2, tuple("cefgh"))


def test_a_drain_does_not_count_against_the_shard() -> None:
    drained = [past(number, "abcdefgh", counts=False) for number in range(1, 9)]
    assert plan_attempt(ROWS, drained, 3).window == ROWS


def test_after_max_attempts_the_window_is_halved() -> None:
    killed = [past(number, "abcdefgh") for number in (1, 2, 3)]
    assert plan_attempt(ROWS, killed, 3).window == tuple("abcd")
    assert plan_attempt(ROWS, [*killed, past(4, "abcd")], 3).window == tuple("ab")


def test_a_half_that_survives_clears_its_rows_and_the_other_half_is_next() -> None:
    killed = [past(number, "abcdefgh") for number in (1, 2, 3)]
    plan = plan_attempt(ROWS, [*killed, past(4, "abcd", "abcd")], 3)
    assert plan.window == tuple("ef")


def test_a_row_is_given_up_only_after_max_attempts_alone() -> None:
    alone = [past(number, "abcdefgh", "abcdefg") for number in (1, 2)]
    assert plan_attempt(ROWS, alone, 3).give_up == ()
    third = [*alone, past(3, "h")]
    plan = plan_attempt(ROWS, third, 3)
    assert (plan.window, plan.give_up) == ((), ("h",))


def test_rows_that_were_beside_a_given_up_one_are_not_suspected_any_more() -> None:
    history = [past(number, "abcdefgh", "abcd") for number in (1, 2, 3)]
    history += [past(number, "e") for number in (4, 5, 6)]
    plan = plan_attempt(ROWS, history, 3)
    assert (plan.window, plan.give_up) == (tuple("fgh"), ("e",))


@settings(max_examples=200, deadline=None)
@given(
    num_rows=st.integers(1, 24),
    killers=st.sets(st.integers(0, 23), max_size=4),
    flushed=st.integers(0, 5),
    max_attempts=st.integers(1, 4),
)
def test_every_row_ends_and_only_killers_are_given_up(
    num_rows: int, killers: set[int], flushed: int, max_attempts: int
) -> None:
    """A worker finishes the rows before the killer, but only those it had flushed survive."""
    rows = [str(number) for number in range(num_rows)]
    deadly = {str(number) for number in killers if number < num_rows}
    history: list[PastAttempt] = []
    finished: set[str] = set()
    given_up: set[str] = set()
    num_deaths = 0
    for _ in range(400):
        plan = plan_attempt(rows, history, max_attempts)
        given_up |= set(plan.give_up)
        assert not set(plan.window) & finished
        # Giving up writes an error row, which finishes it.
        done = set(plan.give_up)
        for position, row in enumerate(plan.window):
            if row in deadly:
                kept = plan.window[:position]
                done |= set(kept[: len(kept) - min(flushed, len(kept))])
                num_deaths += 1
                break
            done.add(row)
        else:
            done |= set(plan.window)
        finished |= done
        history.append(PastAttempt(plan.number, plan.window, frozenset(done), counts=True))
        if finished == set(rows):
            break
    assert finished == set(rows)
    assert given_up == deadly
    # In company, then halving down to one row, the last of which is already alone.
    halvings = (num_rows - 1).bit_length()
    assert num_deaths <= len(deadly) * (max_attempts + halvings + max_attempts - 1)
