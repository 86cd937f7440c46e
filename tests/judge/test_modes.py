"""Each mode from the answers to the table."""

from __future__ import annotations

import dataclasses

import orjson
import pytest

from judge.answers import AnswerSet
from judge.modes import Mode
from judge.plan import Comparison
from judge.run import REVIEWS, Judged, run_judge
from neva.reasons import Reason
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison


def judged(
    compared: list[Comparison], judge: FakeJudge, store: MemoryStore | None = None
) -> Judged:
    return run_judge(compared, SETTINGS, client=judge, store=store or MemoryStore())


def in_mode(mode: Mode, num: int = 3) -> Comparison:
    return dataclasses.replace(comparison(["conv"] * num), mode=mode)


def test_a_verdict_is_asked_for_in_both_orders_and_a_split_one_is_a_tie() -> None:
    def answer(content: str) -> str:
        if "Q0?" in content:
            return "A\nthe first, whichever it is"
        return "B" if "[Assistant B]\nA2" in content else "A"

    store, judge = MemoryStore(), FakeJudge(answer)
    found = judged([in_mode(Mode.VERDICT)], judge, store)
    overall = found.scores.overall
    assert (overall.num_wins, overall.num_ties, overall.num_losses) == (2, 1, 0)
    assert overall.scores == (16.7, 83.3)
    assert (overall.num_both_orders, overall.num_agreeing) == (3, 2)
    assert found.scores.bias.first_wins.num == 6
    review = orjson.loads(store.get(REVIEWS).splitlines()[1])
    assert (review["shown"], review["scores"]) == (
        ["model", "reference"],
        {"reference": 0.0, "model": 1.0},
    )


def test_single_answers_are_judged_without_a_look_at_the_other() -> None:
    judge = FakeJudge(lambda content: "9" if "A1-" in content else "6\nwords")
    found = judged([in_mode(Mode.SINGLE)], judge)
    assert len(judge.asked) == 6
    for request in judge.asked:
        content = request.messages[-1].content
        assert ("A1-" in content) != ("A2-" in content)
        assert "[Assistant]\n" in content and "[End of Assistant]\n" in content
    assert found.scores.overall.scores == (90.0, 60.0)
    assert found.scores.overall.num_both_orders == 0
    assert found.scores.bias.first_wins.num == 0


def test_an_answer_whose_rival_has_no_score_is_in_no_mean() -> None:
    judge = FakeJudge(lambda content: "hm" if "A2-1" in content else "8")
    found = judged([in_mode(Mode.SINGLE)], judge)
    assert (found.scores.overall.num_judged, found.scores.overall.num_failed) == (2, 1)
    assert found.scores.failed_by_reason == {Reason.VERDICT_UNREADABLE: 1}


def test_a_reference_is_shown_and_its_answers_are_right_by_definition() -> None:
    judge = FakeJudge(lambda content: "incorrect" if "A2-0" in content else "correct")
    found = judged([in_mode(Mode.REFERENCE)], judge)
    assert len(judge.asked) == 3
    content = judge.asked[0].messages[-1].content
    assert "[Reference Answer]\nA1-0\n\n[Assistant]\nA2-0\n\n[End of Assistant]" in content
    overall = found.scores.overall
    assert overall.scores == (100.0, 66.7)
    assert overall.relative == 66.7
    assert (overall.num_wins, overall.num_ties, overall.num_losses) == (0, 2, 1)


def test_no_correct_answer_at_all_is_a_result() -> None:
    overall = judged([in_mode(Mode.REFERENCE)], FakeJudge(lambda _: "incorrect")).scores.overall
    assert (overall.scores, overall.relative) == ((100.0, 0.0), 0.0)


@pytest.mark.parametrize("mode", [Mode.VERDICT, Mode.SINGLE, Mode.REFERENCE])
def test_another_mode_is_another_review(mode: Mode) -> None:
    store = MemoryStore()
    judge = FakeJudge(lambda content: "8 7")
    judged([comparison(["conv"] * 3)], judge, store)
    judged([in_mode(mode)], judge, store)
    assert len(judge.asked) > 6


def test_several_answer_sets_are_compared_in_one_run() -> None:
    one = comparison(["conv"] * 2)
    third = AnswerSet("third", {"0": "A3-0", "1": "A3-1"})
    two = dataclasses.replace(one, answers=(one.answers[0], third))
    store, judge = MemoryStore(), FakeJudge(lambda _: "8 7")
    found = judged([one, two], judge, store)
    assert len(judge.asked) == 8
    assert found.record["answers"] == ["reference", "model"]
    (other,) = found.record["others"]
    assert other["answers"] == ["reference", "third"]
    assert other["all"]["num_judged"] == 2
    reviews = [orjson.loads(line) for line in store.get(REVIEWS).splitlines()]
    assert len(reviews) == 8
    assert set(reviews[-1]["answers"]) == {"reference", "third"}


def test_single_answers_that_two_comparisons_share_are_paid_once() -> None:
    one = in_mode(Mode.SINGLE)
    third = AnswerSet("third", {str(n): f"A3-{n}" for n in range(3)})
    two = dataclasses.replace(one, answers=(one.answers[0], third))
    judge = FakeJudge(lambda _: "8")
    judged([one, two], judge)
    assert len(judge.asked) == 9
