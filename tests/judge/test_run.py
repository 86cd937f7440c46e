from __future__ import annotations

import dataclasses
import threading
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from judge.answers import AnswerSet
from judge.asking import Limits
from judge.contexts import Contexts
from judge.errors import Fault, JudgeStopped, ReviewFailed
from judge.jsonl import Problem
from judge.run import REVIEWS, Judged, run_judge
from neva.errors import ConfigError
from neva.ledger import layout
from neva.metrics import of_pods
from neva.metrics.counting import own_sums
from neva.reasons import Reason
from tests.fakes.judge import FakeJudge
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison


def first_is_better(content: str) -> str:
    """A judge that sees through the order: the reference's answers are worth 8, others 6."""
    shown_first = content.partition("[Assistant 1]\n")[2]
    return "8 6\nwords" if shown_first.startswith("A1") else "6 8\nwords"


def run(judge: FakeJudge, store: MemoryStore, **changes: Any) -> Judged:
    compared = changes.pop("compared", None) or comparison(["conv", "conv", "detail"])
    return run_judge(
        [compared], dataclasses.replace(SETTINGS, **changes), client=judge, store=store
    )


def parts_in(store: MemoryStore) -> list[bytes]:
    return [store.get(info.key) for info in store.list("judge/parts/")]


def reviews_in(store: MemoryStore) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in store.get(REVIEWS).splitlines()]


def test_both_orders_are_asked_and_written_in_question_order() -> None:
    store, judge = MemoryStore(), FakeJudge(first_is_better)
    judged = run(judge, store)
    assert len(judge.asked) == 6
    assert judged.scores.overall.scores == (80.0, 60.0)
    reviews = reviews_in(store)
    assert [(r["question_id"], r["order"]) for r in reviews] == [
        (n, order) for n in (0, 1, 2) for order in ("as_given", "swapped")
    ]
    assert reviews[1]["shown"] == ["model", "reference"]
    assert reviews[1]["scores"] == {"reference": 8.0, "model": 6.0}
    assert reviews[1]["content"] == "6 8\nwords"
    assert reviews[1]["answers"] == {"reference": "A1-0", "model": "A2-0"}


def test_one_order_asks_half() -> None:
    judge = FakeJudge(first_is_better)
    assert run(judge, MemoryStore(), both_orders=False).scores.overall.num_both_orders == 0
    assert len(judge.asked) == 3


def test_two_runs_with_the_same_replies_write_the_same_bytes() -> None:
    stores = MemoryStore(), MemoryStore()
    for store, concurrency in zip(stores, (1, 8), strict=True):
        run(FakeJudge(first_is_better), store, limits=Limits(concurrency))
    for key in (REVIEWS, layout.SCORES):
        assert stores[0].get(key) == stores[1].get(key)


def test_a_finished_run_asks_nothing_again() -> None:
    store = MemoryStore()
    run(FakeJudge(first_is_better), store)
    before = dict(store.objects)
    judge = FakeJudge(first_is_better)
    run(judge, store)
    assert judge.asked == []
    assert store.objects == before


def test_a_killed_run_asks_only_for_what_it_had_not_written() -> None:
    store = MemoryStore()
    compared = comparison(["conv"] * 30)

    class Killed(BaseException):
        """Like SIGKILL, nothing in the way handles it."""

    def die_on_second_part(key: str) -> None:
        if key.startswith("judge/parts/") and "0001" not in key:
            raise Killed

    store.before_put = die_on_second_part
    with pytest.raises(Killed):
        run(FakeJudge(first_is_better), store, compared=compared)
    written = len(store.get("judge/parts/0001.jsonl").splitlines())
    assert 1 <= written < 60
    store.before_put = lambda key: None
    judge = FakeJudge(first_is_better)
    judged = run(judge, store, compared=compared)
    assert len(judge.asked) == 60 - written
    undisturbed = MemoryStore()
    run(FakeJudge(first_is_better), undisturbed, compared=compared)
    assert judged.scores.overall.num_judged == 30
    assert store.get(REVIEWS) == undisturbed.get(REVIEWS)


def test_one_changed_answer_is_judged_anew_and_alone() -> None:
    store = MemoryStore()
    run(FakeJudge(first_is_better), store)
    judge = FakeJudge(first_is_better)
    changed = comparison(["conv", "conv", "detail"], second={"0": "A2-0", "1": "new", "2": "A2-2"})
    run(judge, store, compared=changed)
    assert len(judge.asked) == 2
    assert all("new" in request.messages[-1].content for request in judge.asked)


def test_a_reply_without_verdict_is_paid_for_again_only_if_wanted() -> None:
    store = MemoryStore()
    failing = FakeJudge(lambda content: "no idea" if "Q1?" in content else first_is_better(content))
    assert run(failing, store).scores.failed_by_reason == {Reason.VERDICT_UNREADABLE: 1}
    judge = FakeJudge(first_is_better)
    assert run(judge, store).scores.overall.num_failed == 1
    assert judge.asked == []
    assert run(judge, store, retry_failed=True).scores.overall.num_failed == 0
    assert len(judge.asked) == 2
    # with another seed: the same one might well bring the same words
    assert {request.sampling.seed for request in judge.asked} == {43}
    assert run(judge, store).scores.overall.num_failed == 0
    assert len(judge.asked) == 2


def test_a_request_that_got_no_reply_is_made_again_by_the_next_run() -> None:
    store = MemoryStore()

    def answer(content: str) -> str | Exception:
        if "Q1?" in content:
            return ReviewFailed("down", fault=Fault.UNREACHABLE)
        return first_is_better(content)

    failing = FakeJudge(answer)
    assert run(failing, store).scores.failed_by_reason == {Reason.JUDGE_UNAVAILABLE: 1}
    judge = FakeJudge(first_is_better)
    assert run(judge, store).scores.overall.num_failed == 0
    assert len(judge.asked) == 2


def test_equal_reviews_are_paid_once() -> None:
    compared = comparison(["conv", "conv"], first={"0": "a", "1": "a"}, second={"0": "b", "1": "b"})
    twins = dataclasses.replace(
        compared,
        questions=[dataclasses.replace(q, text="same", media="v.mp4") for q in compared.questions],
    )
    judge = FakeJudge(lambda content: "5 5")
    judged = run(judge, MemoryStore(), compared=twins)
    assert len(judge.asked) == 2
    assert judged.scores.overall.num_judged == 2
    assert judged.record["num_prompt_tokens"] == 200


def test_a_missing_answer_is_a_failure_of_its_question_alone() -> None:
    store, judge = MemoryStore(), FakeJudge(first_is_better)
    compared = comparison(
        ["conv", "conv", "detail"], second={"2": "A2-2", "0": "A2-0", "9": "left over"}
    )
    judged = run(judge, store, compared=compared)
    assert len(judge.asked) == 4
    assert judged.scores.overall.scores == (80.0, 60.0)
    assert judged.scores.failed_by_reason == {Reason.ANSWER_MISSING: 1}
    assert judged.record["unmatched"]["answers"]["model"] == {
        "questions_without_answer": ["1"],
        "answers_without_question": ["9"],
    }
    missing = reviews_in(store)[2]
    assert (missing["question_id"], missing["order"], missing["reason"]) == (
        1,
        None,
        Reason.ANSWER_MISSING,
    )


def counted(reason: Reason) -> float:
    return own_sums().get((of_pods.JUDGE_FAILED.name, (reason,)), 0.0)


def test_what_could_not_be_asked_or_read_is_counted_too() -> None:
    reasons = (Reason.ANSWER_MISSING, Reason.CONTEXT_MISSING, Reason.VERDICT_UNREADABLE)
    before = [counted(reason) for reason in reasons]
    compared = comparison(
        ["conv"] * 3,
        second={"0": "A2-0", "1": "A2-1"},
        contexts=Contexts(by_media={"0.mp4": "caption", "2.mp4": "caption"}),
    )
    run(FakeJudge(lambda content: "no idea"), MemoryStore(), compared=compared)
    assert [counted(r) - n for r, n in zip(reasons, before, strict=True)] == [1, 1, 2]


def test_ambiguous_answers_and_missing_captions_are_named() -> None:
    compared = comparison(
        ["conv", "conv"],
        second={"1": "A2-1"},
        contexts=Contexts(by_media={"0.mp4": "caption"}),
    )
    ambiguous = AnswerSet("model", {"1": "A2-1"}, ambiguous=frozenset({"0"}))
    compared = dataclasses.replace(compared, answers=(compared.answers[0], ambiguous))
    judge = FakeJudge(first_is_better)
    judged = run(judge, MemoryStore(), compared=compared)
    assert judge.asked == []
    assert judged.scores.failed_by_reason == {Reason.ANSWER_MISSING: 1, Reason.CONTEXT_MISSING: 1}
    assert judged.record["unmatched"]["questions_without_context"] == ["1"]


def test_a_refused_key_stops_at_once_and_keeps_what_was_paid() -> None:
    store = MemoryStore()
    asked = threading.Semaphore(3)

    def answer(content: str) -> str | Exception:
        if asked.acquire(blocking=False):
            return first_is_better(content)
        return JudgeStopped("refused", reason=Reason.JUDGE_DENIED)

    judge = FakeJudge(answer)
    with pytest.raises(JudgeStopped):
        run(judge, store, compared=comparison(["conv"] * 50))
    assert len(judge.asked) <= 3 + 2 * SETTINGS.limits.concurrency
    assert sum(len(parts.splitlines()) for parts in parts_in(store)) == 3
    assert layout.SCORES not in store.objects


def test_a_dead_endpoint_is_given_up_and_every_question_has_its_reason() -> None:
    store = MemoryStore()
    judge = FakeJudge(lambda content: ReviewFailed("no connection", fault=Fault.UNREACHABLE))
    with capture_logs() as logs:
        judged = run(judge, store, compared=comparison(["conv"] * 100))
    # Said once, while it is asked again and again for minutes.
    assert [log["why"] for log in logs] == ["no connection"]
    assert len(judge.asked) < 20
    assert judged.scores.failed_by_reason == {Reason.JUDGE_UNAVAILABLE: 100}
    assert all(review["message"].endswith("no connection") for review in reviews_in(store))


def test_refusals_of_single_questions_do_not_count_as_a_dead_endpoint() -> None:
    judge = FakeJudge(lambda content: ReviewFailed("too long", reason=Reason.JUDGE_REFUSED))
    judged = run(judge, MemoryStore(), compared=comparison(["conv"] * 40))
    assert len(judge.asked) == 80
    assert judged.scores.failed_by_reason == {Reason.JUDGE_REFUSED: 40}


def test_a_category_without_rule_is_refused_before_anything_is_asked() -> None:
    judge = FakeJudge(first_is_better)
    with pytest.raises(ConfigError, match="math"):
        run(judge, MemoryStore(), compared=comparison(["conv", "math"]))
    assert judge.asked == []


def test_two_answer_sets_of_one_name_are_refused() -> None:
    compared = comparison(["conv"])
    twice = dataclasses.replace(compared, answers=(compared.answers[0], compared.answers[0]))
    with pytest.raises(ConfigError, match="different names"):
        run(FakeJudge(first_is_better), MemoryStore(), compared=twice)


def test_a_damaged_part_costs_its_lines_only() -> None:
    store = MemoryStore()
    run(FakeJudge(first_is_better), store)
    good = store.get("judge/parts/0001.jsonl").splitlines(keepends=True)
    store.objects["judge/parts/0001.jsonl"] = b"".join([good[0][:20] + b"\n", *good[1:]])
    judge = FakeJudge(first_is_better)
    assert run(judge, store).scores.overall.num_judged == 3
    assert len(judge.asked) == 1


def test_two_runs_at_once_do_not_overwrite_each_others_parts() -> None:
    store = MemoryStore()
    store.put("judge/parts/0002.jsonl", b"")
    run(FakeJudge(first_is_better), store)
    assert store.get("judge/parts/0002.jsonl") == b""
    assert "judge/parts/0003.jsonl" in store.objects


def test_the_record_names_judge_and_problems_and_no_secret() -> None:
    problem = Problem("q.jsonl", 3, Reason.INVALID_JSON, "no JSON")
    settings = dataclasses.replace(
        SETTINGS, model="Some-Stand-In", endpoint="https://user:secret@host:1/v1?key=secret"
    )
    record = run_judge(
        [comparison(["conv"])],
        settings,
        client=FakeJudge(first_is_better),
        store=MemoryStore(),
        problems=[problem],
    ).record
    assert record["judge"]["endpoint"] == "https://host:1/v1"
    assert record["judge"]["stand_in"] is True
    assert record["problems"] == [problem.to_json()]
    assert (record["num_questions"], record["num_judged"], record["num_failed"]) == (1, 1, 0)
