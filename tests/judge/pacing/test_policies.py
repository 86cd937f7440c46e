from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.errors import Fault, ReviewFailed
from judge.pacing.breaker import Breaker
from judge.pacing.budget import Budget, BudgetLimits
from judge.pacing.concurrency import Concurrency
from judge.pacing.rate import Pace, TokenEstimate
from judge.pacing.retry import RetryPolicy
from neva.reasons import Reason


def test_concurrency_doubles_a_round_trip_until_it_is_pushed_back() -> None:
    found = Concurrency(64)
    limits = []
    for _ in range(4):
        limits.append(found.limit)
        for _ in range(found.limit):
            found.succeeded(found.limit)
    assert limits == [4, 8, 16, 32]
    found.pushed_back(started_s=0.0, now_s=1.0)
    assert found.limit == 32
    for _ in range(33):
        found.succeeded(found.limit)
    assert found.limit == 33


def test_requests_that_ran_into_the_same_wall_halve_it_once() -> None:
    found = Concurrency(64, initial=32)
    for _ in range(10):
        found.pushed_back(started_s=0.5, now_s=1.0)
    assert found.limit == 16
    found.pushed_back(started_s=1.5, now_s=2.0)
    assert found.limit == 8


def test_concurrency_stays_within_its_bounds() -> None:
    found = Concurrency(2)
    assert found.limit == 2
    for n in range(20):
        found.pushed_back(started_s=n, now_s=n)
    assert found.limit == 1
    for _ in range(20):
        found.succeeded(found.limit)
    assert found.limit == 2


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    found = Concurrency(64)
    for _ in range(100):
        found.succeeded(1)
    assert found.limit == 4


@given(
    per_minute=st.integers(1, 5000),
    delays=st.lists(st.floats(0, 3), min_size=5, max_size=300),
)
def test_no_minute_holds_more_requests_than_the_limit(per_minute: int, delays: list[float]) -> None:
    pace, now_s, starts = Pace(requests=per_minute), 0.0, []
    for delay in delays:
        now_s += pace.wait_s(now_s) + delay * (60 / per_minute)
        pace.start(now_s, 0)
        starts.append(now_s)
    for n, start in enumerate(starts):
        assert sum(1 for other in starts[n:] if other < start + 60) <= per_minute


def test_requests_come_evenly_and_nearly_at_the_limit() -> None:
    pace, now_s, num = Pace(requests=600), 0.0, 0
    while now_s < 60:
        pace.start(now_s, 0)
        num += 1
        now_s += pace.wait_s(now_s)
    assert 585 <= num <= 600


def test_tokens_are_booked_by_estimate_and_corrected() -> None:
    pace = Pace(tokens=6000)
    pace.start(0.0, 1000)
    assert pace.wait_s(0.0) == pytest.approx(10, abs=0.5)
    pace.settle(1000, 200)
    assert pace.wait_s(0.0) == pytest.approx(2, abs=0.5)
    assert pace.wait_s(5.0) == 0
    assert Pace().wait_s(0.0) == 0


def test_estimates_learn_from_replies() -> None:
    estimate = TokenEstimate(max_tokens=1024)
    assert estimate.of(350) == (100, 300)
    for _ in range(50):
        estimate.learn(700, 140, 80)
    assert estimate.of(350) == pytest.approx((70, 80))


def failure(fault: Fault | None, wait_s: float | None = None) -> ReviewFailed:
    return ReviewFailed("no", fault=fault, wait_s=wait_s)


def test_waits_double_and_are_jittered() -> None:
    policy = RetryPolicy()
    overload = failure(Fault.OVERLOADED)
    assert [policy.wait_s(overload, n, 1.0) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert policy.wait_s(overload, 1, 0.0) == 0.25
    assert policy.wait_s(failure(Fault.THROTTLED), 11, 1.0) == 30


def test_retry_after_is_never_undercut_and_not_waited_for_for_ever() -> None:
    policy = RetryPolicy()
    wait_s = policy.wait_s(failure(Fault.THROTTLED, 17), 1, 0.5)
    assert wait_s is not None and 17 <= wait_s < 18
    assert policy.wait_s(failure(Fault.THROTTLED, 3600), 1, 0.5) is None


@pytest.mark.parametrize(
    ("fault", "most"),
    [(Fault.THROTTLED, 12), (Fault.OVERLOADED, 6), (Fault.UNREACHABLE, 6), (Fault.UNUSABLE, 3)],
)
def test_each_kind_of_failure_is_tried_so_often(fault: Fault, most: int) -> None:
    policy = RetryPolicy()
    assert policy.wait_s(failure(fault), most - 1, 0.5) is not None
    assert policy.wait_s(failure(fault), most, 0.5) is None
    assert policy.wait_s(failure(None), 1, 0.5) is None


def test_a_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker(3)
    for _ in range(2):
        breaker.failed(0.0, "down")
    breaker.succeeded()
    for _ in range(3):
        breaker.failed(10.0, "down")
    assert breaker.is_open
    assert breaker.wait_s(10.0, num_running=0) == 5
    assert breaker.wait_s(15.0, num_running=0) == 0
    assert breaker.wait_s(15.0, num_running=1) == float("inf")
    breaker.succeeded()
    assert breaker.wait_s(15.0, num_running=5) == 0


def test_an_endpoint_that_stays_down_is_given_up() -> None:
    breaker, now_s = Breaker(3), 0.0
    for _ in range(3):
        breaker.failed(now_s, "down")
    for _ in range(20):
        breaker.failed(now_s, "down")  # were under way
    assert not breaker.is_given_up
    num_probes = 0
    while not breaker.is_given_up:
        now_s += breaker.wait_s(now_s, 0)
        breaker.failed(now_s, "down")
        num_probes += 1
    assert num_probes == 5
    assert now_s < 150


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BudgetLimits(requests=2), "2 requests"),
        (BudgetLimits(tokens=2500), "2500 tokens"),
        (BudgetLimits(cost=0.5, prompt_price=100, completion_price=1000), "budget of 0.5"),
    ],
)
def test_a_budget_is_never_overdrawn(limits: BudgetLimits, words: str) -> None:
    budget, num = Budget(limits), 0
    while (refusal := budget.refusal(1000, 100)) is None:
        budget.spend(1000, 100)
        num += 1
    assert num == 2
    assert words in refusal


def test_tokens_that_were_not_needed_are_given_back() -> None:
    budget = Budget(BudgetLimits(tokens=2000))
    budget.spend(1000, 900)
    assert budget.refusal(1000, 0) is not None
    budget.correct(-500, -800)
    assert budget.refusal(1000, 0) is None


def test_without_limits_everything_is_allowed() -> None:
    assert Budget(BudgetLimits()).refusal(1e12, 1e12) is None


def test_a_named_failure_keeps_its_reason() -> None:
    assert ReviewFailed("x", fault=Fault.UNUSABLE).reason is Reason.JUDGE_UNAVAILABLE
