"""Whole comparisons against an endpoint that does everything wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path

import pytest

from judge.asking import Limits
from judge.client import Connection, OpenAIJudge
from judge.errors import JudgeStopped
from judge.pacing.budget import BudgetLimits
from judge.pacing.retry import RetryPolicy
from judge.run import Judged, run_judge
from neva.reasons import Reason
from neva.store import Store, open_store
from tests.fakes.judge_endpoint import (
    Handler,
    Log,
    RateLimited,
    Seen,
    Writer,
    chunk,
    completion,
    send,
    send_events,
    send_json,
    serving,
    start_stream,
)
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison

RETRY = RetryPolicy(first_wait_s=0.01, throttled_wait_s=0.02, max_wait_s=0.1)
LIMITS = Limits(16, retry=RETRY, breaker_pause_s=0.05)
PATIENT = Connection(timeout_s=20)


def judged(
    handler: Handler,
    num: int,
    store: Store | None = None,
    limits: Limits = LIMITS,
    connection: Connection = PATIENT,
) -> tuple[Judged, Log]:
    settings = dataclasses.replace(SETTINGS, limits=limits)
    with serving(handler) as (url, log):
        found = run_judge(
            [comparison(["conv"] * num)],
            settings,
            client=OpenAIJudge(url, api_key="k", connection=connection),
            store=store or MemoryStore(),
        )
    return found, log


async def good(seen: Seen, writer: Writer) -> None:
    await send_json(writer, completion("8 7\nwords"))


class EveryFault:
    """Each question meets one fault, on its first tries; question 11 meets its own for ever."""

    KINDS = 11

    def __init__(self) -> None:
        self.tries: dict[str, int] = {}

    async def __call__(self, seen: Seen, writer: Writer) -> None:
        question = int(re.search(r"Q(\d+)\?", seen.content)[1])  # type: ignore[index]
        tries = self.tries[seen.content] = self.tries.get(seen.content, 0) + 1
        if question == self.KINDS:
            await send_json(writer, {"error": "broken for good"}, 500)
        elif tries > 2 or question > self.KINDS:
            await good(seen, writer)
        else:
            await getattr(self, f"fault_{question}")(writer)

    async def fault_0(self, writer: Writer) -> None:
        await send_json(writer, {"error": "too many"}, 429)

    async def fault_1(self, writer: Writer) -> None:
        await send_json(writer, {"error": "too many"}, 429, retry_after="0.05")

    async def fault_2(self, writer: Writer) -> None:
        await send_json(writer, {"error": "boom"}, 500)

    async def fault_3(self, writer: Writer) -> None:  # empty deltas and usage alone
        await start_stream(writer)
        await send_events(writer, chunk(), chunk(), {"choices": [], "usage": {}}, "[DONE]")
        writer.close()

    async def fault_4(self, writer: Writer) -> None:
        await send_json(writer, completion(None))

    async def fault_5(self, writer: Writer) -> None:  # cut in the middle
        await start_stream(writer)
        await send_events(writer, chunk("8 "))
        writer.close()

    async def fault_6(self, writer: Writer) -> None:  # a drip for longer than anyone waits
        await start_stream(writer)
        for _ in range(100):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def fault_7(self, writer: Writer) -> None:
        await send(writer, 200, b'{"choices": [')

    async def fault_8(self, writer: Writer) -> None:
        await send_json(writer, {"status": "pending"}, 202)

    async def fault_9(self, writer: Writer) -> None:
        writer.close()

    async def fault_10(self, writer: Writer) -> None:
        await send(writer, 200, b"<html>gateway</html>", "text/html")


def test_every_question_ends_as_a_verdict_or_a_named_failure() -> None:
    found, _ = judged(EveryFault(), 20, connection=Connection(timeout_s=0.8))
    assert found.scores.overall.num_judged == 19
    assert found.scores.failed_by_reason == {Reason.JUDGE_UNAVAILABLE: 1}
    assert found.scores.overall.scores == (75.0, 75.0)


def test_a_refused_key_is_one_failure_and_not_one_for_each_question() -> None:
    async def refuse(seen: Seen, writer: Writer) -> None:
        await send_json(writer, {"error": "bad key"}, 401)

    with pytest.raises(JudgeStopped):
        judged(refuse, 50)


@pytest.mark.parametrize("retry_after", [True, False])
def test_an_endpoint_that_pushes_back_still_answers_everything(retry_after: bool) -> None:
    limited = RateLimited(good, most=20, window_s=0.5, retry_after=retry_after)
    found, log = judged(limited, 40)
    assert found.scores.overall.num_judged == 40
    # few are wasted: the client backs off instead of hammering
    assert len(log.seen) < 2 * 80


def test_requests_stay_within_the_limit_as_the_endpoint_counts_them() -> None:
    found, log = judged(good, 30, limits=dataclasses.replace(LIMITS, requests_per_minute=2400))
    assert found.scores.overall.num_judged == 30
    times = [seen.at_s for seen in log.seen]
    assert len(times) == 60
    # 40 a second, and what was missed within a quarter of a second may be caught up with
    late_s = 0.2  # any of them may arrive, on a busy machine
    assert times[-1] - times[0] >= 59 / 40 - 0.25 - late_s
    assert log.most_in(0.5) <= (0.5 + 0.25 + late_s) * 40 + 1


def test_a_budget_of_requests_ends_the_asking_and_the_next_run_goes_on() -> None:
    store = MemoryStore()

    def run(num_requests: int | None) -> Judged:
        budget = BudgetLimits(requests=num_requests)
        return judged(good, 20, store, dataclasses.replace(LIMITS, budget=budget))[0]

    first = run(10)
    assert first.record["num_reviews"] - first.record["num_reviews_failed"] == 10
    assert set(first.scores.failed_by_reason) == {Reason.JUDGE_BUDGET_SPENT}
    assert run(10).record["num_reviews_failed"] == 30  # it holds for all runs together
    assert run(None).scores.overall.num_judged == 20


def test_a_budget_of_tokens_and_money_is_kept_by_what_the_endpoint_counts() -> None:
    budget = BudgetLimits(tokens=1500, cost=1.0, prompt_price=1.0, completion_price=1.0)
    found, _ = judged(good, 20, limits=dataclasses.replace(LIMITS, budget=budget))
    record = found.record
    spent = record["num_prompt_tokens"] + record["num_completion_tokens"]
    assert 900 <= spent <= 1500
    assert record["cost"] == pytest.approx(spent / 1_000_000)


def test_an_endpoint_that_is_down_is_given_up_soon() -> None:
    async def down(seen: Seen, writer: Writer) -> None:
        await send_json(writer, {"error": "down"}, 503)

    found, log = judged(down, 100)
    assert found.scores.failed_by_reason == {Reason.JUDGE_UNAVAILABLE: 100}
    assert len(log.seen) < 100


def test_an_endpoint_that_comes_back_is_asked_again() -> None:
    num = 0

    async def away(seen: Seen, writer: Writer) -> None:
        nonlocal num
        num += 1
        if num <= 34:
            await send_json(writer, {"error": "restarting"}, 503)
        else:
            await good(seen, writer)

    found, _ = judged(away, 30)
    assert found.scores.overall.num_judged == 30


def test_replies_lie_on_disk_before_the_next_ones_come(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    num_asked = 0
    written_in_time: list[bool] = []

    def num_written() -> int:
        return sum(part.read_bytes().count(b"\n") for part in tmp_path.rglob("parts/*.jsonl"))

    async def after_the_last_is_written(seen: Seen, writer: Writer) -> None:
        nonlocal num_asked
        num_asked += 1
        for _ in range(500):
            if num_written() >= num_asked - 1:
                break
            await asyncio.sleep(0.01)
        written_in_time.append(num_written() >= num_asked - 1)
        await good(seen, writer)

    one_by_one = dataclasses.replace(LIMITS, concurrency=1)
    found, _ = judged(after_the_last_is_written, 5, store, one_by_one)
    assert found.scores.overall.num_judged == 5
    assert written_in_time == [True] * 10
