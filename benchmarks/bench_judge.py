"""How fast a judge is asked, against a local endpoint with 300 ms latency and a limit a minute.

    python -m benchmarks.bench_judge

Compares with asking one request after the other through the same client. Last line:

    bench-judge: vs_serial=… limit_used=… p95_extra_s=…

vs_serial: by the time of a whole comparison, planning, figures and writing included.
limit_used: requests a minute, as they arrive, as a share of the limit.
p95_extra_s: what a review takes longer than the endpoint's latency, in 95 % of cases at most.
Fails below 7 times serial or 0.95 of the limit, if a request was refused, or if in any ten seconds
more arrived than a sixth of the limit and what may be caught up with.
"""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from judge.answers import AnswerSet
from judge.asking import Limits
from judge.client import Connection, OpenAIJudge
from judge.completion import Reply
from judge.plan import Comparison
from judge.questions import Question
from judge.request import ReviewRequest
from judge.rules import default_rules
from judge.run import JudgeSettings, run_judge
from neva.store import open_store
from tests.fakes.judge_endpoint import Seen, Writer, completion, send_json, serving

LATENCY_S = 0.3
REQUESTS_PER_MINUTE = 1800
NUM_QUESTIONS = 450  # two reviews each
NUM_SERIAL = 10
GOAL_VS_SERIAL, GOAL_LIMIT_USED = 7.0, 0.95
_CATCH_UP_S = 0.25


class Timed(OpenAIJudge):
    """Remembers how long each review took."""

    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint, api_key=None, connection=Connection(structured=False))
        self.seconds: list[float] = []

    async def review(self, request: ReviewRequest) -> Reply:
        started_s = time.monotonic()
        reply = await super().review(request)
        self.seconds.append(time.monotonic() - started_s)
        return reply


async def _answer(seen: Seen, writer: Writer) -> None:
    await asyncio.sleep(LATENCY_S)
    await send_json(writer, completion("8 7\nBoth answers are fine, the second lacks a detail."))


def _judge(endpoint: str, num_questions: int, limits: Limits) -> tuple[float, Timed]:
    """Seconds that a comparison took, writing and reckoning included."""
    questions = [
        Question(str(n), n, f"What about {n}?", media=f"{n}.mp4") for n in range(num_questions)
    ]
    sets = (
        AnswerSet("a", {q.key: f"It is {q.key}." for q in questions}),
        AnswerSet("b", {q.key: f"It may be {q.key}." for q in questions}),
    )
    settings = JudgeSettings(model="m", endpoint=endpoint, limits=limits)
    client = Timed(endpoint)
    with TemporaryDirectory() as folder:
        started_s = time.monotonic()
        judged = run_judge(
            [Comparison(questions, sets, default_rules())],
            settings,
            client=client,
            store=open_store(str(Path(folder))),
        )
        took_s = time.monotonic() - started_s
    if judged.scores.overall.num_judged != num_questions:
        raise SystemExit(f"bench-judge: {judged.scores.failed_by_reason}")
    return took_s, client


def main() -> int:
    limits = Limits(concurrency=64, requests_per_minute=REQUESTS_PER_MINUTE)
    with serving(_answer) as (url, log):
        serial_s, _ = _judge(url, NUM_SERIAL, dataclasses.replace(limits, concurrency=1))
        per_serial_s = serial_s / (2 * NUM_SERIAL)
        log.seen.clear()
        took_s, client = _judge(url, NUM_QUESTIONS, limits)
    num = 2 * NUM_QUESTIONS
    arriving_s = log.seen[-1].at_s - log.seen[0].at_s
    limit_used = (num - 1) / arriving_s * 60 / REQUESTS_PER_MINUTE
    vs_serial = per_serial_s * num / took_s
    extra_s = sorted(client.seconds)[int(0.95 * num)] - LATENCY_S
    most = log.most_in(10.0)
    allowed = REQUESTS_PER_MINUTE / 60 * (10 + _CATCH_UP_S)
    print(f"{num} reviews in {took_s:.1f} s, {1000 * per_serial_s:.0f} ms one by one")
    print(f"arrived: {len(log.seen)}; most in 10 s: {most} of {allowed:.0f} allowed")
    print(
        f"bench-judge: vs_serial={vs_serial:.2f} limit_used={limit_used:.3f} "
        f"p95_extra_s={extra_s:.3f}"
    )
    good = vs_serial >= GOAL_VS_SERIAL and limit_used >= GOAL_LIMIT_USED
    return 0 if good and most <= allowed and len(log.seen) == num else 1


if __name__ == "__main__":
    sys.exit(main())
