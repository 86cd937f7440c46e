from __future__ import annotations

import pytest

from judge.completion import Reply
from judge.errors import ReviewFailed
from judge.modes import Order
from judge.plan import plan_reviews
from judge.request import Sampling
from judge.reviews import QuestionResult, collect
from judge.scores import score_question, summarize
from neva.reasons import Reason
from tests.judge.examples import comparison

GOLDEN = [
    ("conv", "8 6"),
    ("conv", "9 8"),
    ("detail", "7 7"),
    ("complex", "10 5"),
    ("complex", "9 9.5"),
]


def results(
    verdicts: list[tuple[str, str | None]], swapped: list[str | None] | None = None
) -> tuple[QuestionResult, ...]:
    """Results of questions with these replies; None is a failed request."""
    compared = comparison([category for category, _ in verdicts])
    plan = plan_reviews(compared, model="m", sampling=Sampling(), both_orders=swapped is not None)
    replies: dict[str, Reply | ReviewFailed] = {}
    for planned in plan.reviews:
        number = int(planned.question.key)
        words = (
            verdicts[number][1]
            if planned.order is Order.AS_GIVEN or swapped is None
            else swapped[number]
        )
        replies[planned.digest] = ReviewFailed("down") if words is None else Reply(words)
    return collect(compared, plan, replies)


def test_the_golden_table() -> None:
    scores = summarize(results([*GOLDEN]))
    assert scores.overall.scores == (86.0, 71.0)
    assert {name: s.scores for name, s in scores.categories.items()} == {
        "complex": (95.0, 72.5),
        "conv": (85.0, 70.0),
        "detail": (70.0, 70.0),
    }
    assert list(scores.categories) == ["complex", "conv", "detail"]
    assert scores.overall.relative == 82.6
    assert {name: s.relative for name, s in scores.categories.items()} == {
        "complex": 76.3,
        "conv": 82.4,
        "detail": 100.0,
    }


def test_wins_ties_and_losses_are_those_of_answer_2() -> None:
    overall = summarize(results([*GOLDEN])).overall
    assert (overall.num_wins, overall.num_ties, overall.num_losses) == (1, 1, 3)


@pytest.mark.parametrize("reply", [None, "", "8 7 6", "nan 7"])
def test_a_failed_question_is_counted_and_changes_no_mean(reply: str | None) -> None:
    scores = summarize(results([*GOLDEN, ("detail", reply)]))
    assert scores.overall.scores == (86.0, 71.0)
    assert scores.categories["detail"].relative == 100.0
    assert (scores.overall.num_judged, scores.overall.num_failed) == (5, 1)
    assert scores.categories["detail"].num_failed == 1
    reason = Reason.JUDGE_UNAVAILABLE if reply is None else Reason.VERDICT_UNREADABLE
    assert scores.failed_by_reason == {reason: 1}


def test_a_category_that_failed_as_a_whole_has_no_figures() -> None:
    detail = summarize(results([("conv", "8 8"), ("detail", None)])).categories["detail"]
    assert (detail.scores, detail.relative, detail.num_judged) == (None, None, 0)


def test_no_verdict_at_all_gives_no_figures() -> None:
    overall = summarize(results([("conv", None)])).overall
    assert (overall.scores, overall.relative) == (None, None)


def test_swapped_verdicts_are_turned_back_and_averaged() -> None:
    # Shown first wins both times: the answers are equal, the judge is biased.
    (result,) = results([("conv", "9 7")], swapped=["9 7"])
    score = score_question(result)
    assert score is not None
    assert score.scores == (8.0, 8.0)
    assert score.orders_agree is False


def test_one_order_without_verdict_leaves_the_other() -> None:
    (result,) = results([("conv", "6 8")], swapped=[None])
    score = score_question(result)
    assert score is not None
    assert (score.scores, score.orders_agree) == ((6.0, 8.0), None)


def test_agreement_counts_questions_judged_both_ways() -> None:
    overall = summarize(
        results(
            [("conv", "6 8"), ("conv", "6 8"), ("conv", "7 7"), ("conv", "7 7")],
            swapped=["9 3", "3 9", "5 5", None],
        )
    ).overall
    assert (overall.num_both_orders, overall.num_agreeing) == (3, 2)
