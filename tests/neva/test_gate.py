from __future__ import annotations

from decimal import Decimal

import pytest

from neva.gate import Decision, all_of, fell_by_no_more, not_inferior, within

GO, NO_GO, INCONCLUSIVE = Decision.GO, Decision.NO_GO, Decision.INCONCLUSIVE


@pytest.mark.parametrize(
    ("value", "low", "high", "decision"),
    [
        (5, 5, None, GO),
        (4.9, 5, None, NO_GO),
        (5, None, 5, GO),
        (6, 4, 5, NO_GO),
        (1, None, None, GO),
    ],
)
def test_absolute(value: float, low: float | None, high: float | None, decision: Decision) -> None:
    assert within(value, low, high) is decision


@pytest.mark.parametrize(
    ("before", "now", "most", "decision"),
    [(82.6, 80.6, 2.0, GO), (82.6, 80.5, 2.0, NO_GO), (80.0, 90.0, 0.0, GO)],
)
def test_relative_to_a_baseline(before: float, now: float, most: float, decision: Decision) -> None:
    assert fell_by_no_more(before, now, most) is decision
    assert fell_by_no_more(*(Decimal(str(v)) for v in (before, now, most))) is decision


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (-1.9, 4, GO),
        (-6, -2.1, NO_GO),
        (-4, -2, NO_GO),
        (-4, 1, INCONCLUSIVE),
        (-2, 1, INCONCLUSIVE),
    ],
)
def test_non_inferiority(low: float, high: float, decision: Decision) -> None:
    assert not_inferior(low, high, margin=2) is decision


def test_together() -> None:
    assert all_of([GO, GO]) is GO
    assert all_of([GO, INCONCLUSIVE]) is INCONCLUSIVE
    assert all_of([INCONCLUSIVE, NO_GO, GO]) is NO_GO
    assert all_of([]) is INCONCLUSIVE
