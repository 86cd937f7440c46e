"""Has a list of reviews answered: as fast as the endpoint and its limits let, each reply kept.

Owns admission, the clock and the order of writing; how fast, how often and how long is decided by
the policies of `judge.pacing`. Knows nothing of scores.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import signal
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from judge.client import JudgeClient
from judge.completion import Reply
from judge.errors import Fault, JudgeStopped, ReviewFailed
from judge.pacing.breaker import Breaker
from judge.pacing.budget import Budget, BudgetLimits
from judge.pacing.concurrency import Concurrency
from judge.pacing.rate import Pace, TokenEstimate
from judge.pacing.retry import RetryPolicy
from judge.plan import PlannedReview
from judge.replies import ReplyLog
from neva import tracing
from neva.metrics import of_pods
from neva.metrics.counting import count, write_counts
from neva.reasons import Reason

log = structlog.get_logger(__name__)

_LOST_IN_A_ROW = 10
_GRACE_S = 5.0

Progress = Callable[[int, int, int], None]
"""Called with reviews done, reviews in all, and those of them that failed."""

Outcome = Reply | ReviewFailed


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard an endpoint may be asked.

    Attributes:
        concurrency: most requests at a time; fewer if it pushes back.
        requests_per_minute, tokens_per_minute: None: whatever it bears.
    """

    concurrency: int = 8
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget: BudgetLimits = field(default_factory=BudgetLimits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker_pause_s: float = 5.0


def ask_all(
    reviews: Sequence[PlannedReview],
    *,
    known: Mapping[str, Reply],
    client: JudgeClient,
    log: ReplyLog,
    limits: Limits,
    progress: Progress | None = None,
) -> dict[str, Outcome]:
    """The judge's reply, or its failure, for each distinct digest in `reviews`. Closes `client`.

    Args:
        known: replies of earlier runs; they are not asked for again.
        log: gets every new reply, written as it comes.

    Raises:
        JudgeStopped: at the first refused key; replies had until then are written.
        StoreError: a reply can't be written.
        SystemExit: SIGTERM came; what was under way has been waited for, for some seconds.
    """
    return asyncio.run(_Asking(reviews, known, client, log, limits, progress).run())


@dataclass(slots=True)
class _Try:
    """One attempt at a review."""

    review: PlannedReview
    num_attempts: int = 0
    started_s: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0


class _Asking:
    def __init__(
        self,
        reviews: Sequence[PlannedReview],
        known: Mapping[str, Reply],
        client: JudgeClient,
        log: ReplyLog,
        limits: Limits,
        progress: Progress | None,
    ) -> None:
        wanted = {review.digest: review for review in reviews}
        self._done: dict[str, Outcome] = {d: known[d] for d in wanted if d in known}
        self._queue = deque(_Try(r) for digest, r in wanted.items() if digest not in known)
        self._num_wanted = len(wanted)
        self._num_failed = 0
        self._client, self._log, self._progress = client, log, progress
        self._running: dict[asyncio.Task[Outcome | JudgeStopped], _Try] = {}
        self._later: list[tuple[float, int, _Try]] = []  # a heap; the number breaks ties
        self._num_put_off = 0
        self._retry = limits.retry
        self._concurrency = Concurrency(limits.concurrency)
        self._pace = Pace(limits.requests_per_minute, limits.tokens_per_minute)
        self._breaker = Breaker(max(_LOST_IN_A_ROW, 2 * limits.concurrency), limits.breaker_pause_s)
        self._budget = Budget(limits.budget)
        sampling = reviews[0].request.sampling if reviews else None
        self._estimate = TokenEstimate(sampling.max_tokens if sampling else 1)
        for reply in known.values():
            self._budget.spend(reply.num_prompt_tokens or 0, reply.num_completion_tokens or 0)
        self._paused_until_s = float("-inf")
        self._draw = random.Random()
        self._stop: BaseException | None = None
        self._to_write = asyncio.Event()
        self._is_over = False

    async def run(self) -> dict[str, Outcome]:
        loop = asyncio.get_running_loop()
        writer = asyncio.create_task(self._write())
        terminated: asyncio.Future[None] = loop.create_future()
        restore = _on_sigterm(loop, terminated)
        try:
            while self._stop is None and not writer.done():
                wait_s = self._admit(loop.time())
                if not self._running and not self._queue and not self._later:
                    break
                await self._wait(wait_s, writer, terminated)
                if terminated.done():
                    self._stop = SystemExit(128 + signal.SIGTERM)
            await self._let_finish()
        finally:
            restore()
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._client.close()
            self._is_over = True
            self._to_write.set()
            write_counts()
            await writer  # raises StoreError for what it could not write
        if self._stop is not None:
            raise self._stop
        return self._done

    def _admit(self, now_s: float) -> float | None:
        """Start what may start now; returns the seconds after which more may, None: on an event."""
        while self._later and self._later[0][0] <= now_s:
            # Behind the others: else a few would use up all their attempts while it is down.
            self._queue.append(heapq.heappop(self._later)[2])
        next_later_s = self._later[0][0] - now_s if self._later else None
        while self._queue and len(self._running) < self._concurrency.limit:
            if self._breaker.is_given_up:
                self._give_up_all(ReviewFailed(self._breaker.message))
                return None
            wait_s = max(
                self._pace.wait_s(now_s),
                self._paused_until_s - now_s,
                self._breaker.wait_s(now_s, len(self._running)),
            )
            if wait_s > 0:
                return _earlier(wait_s, next_later_s)
            one = self._queue[0]
            size = self._estimate.of(one.review.request.num_characters)
            refusal = self._budget.refusal(*size)
            if refusal is not None:
                if self._running:
                    return None  # their replies may be smaller than was booked
                self._give_up_all(ReviewFailed(refusal, reason=Reason.JUDGE_BUDGET_SPENT))
                return None
            self._start(self._queue.popleft(), size, now_s)
        return next_later_s

    def _start(self, one: _Try, size: tuple[float, float], now_s: float) -> None:
        one.num_attempts += 1
        one.started_s = now_s
        one.prompt_tokens, one.completion_tokens = size
        self._pace.start(now_s, sum(size))
        self._budget.spend(*size)
        self._running[asyncio.create_task(self._ask(one.review))] = one

    async def _write(self) -> None:
        """Write whatever came while the last write was under way, as one part: no reply waits
        longer than two writes, and a kill loses no more."""
        while not (self._is_over and not self._log.num_waiting):
            await self._to_write.wait()
            self._to_write.clear()
            await asyncio.to_thread(self._log.flush)

    async def _ask(self, review: PlannedReview) -> Outcome | JudgeStopped:
        try:
            with tracing.span("judge request"):
                return await self._client.review(review.request)
        except (ReviewFailed, JudgeStopped) as failure:
            return failure

    async def _wait(self, wait_s: float | None, *others: asyncio.Future[None]) -> None:
        finite_s = None if wait_s is None or wait_s == float("inf") else wait_s
        events: set[asyncio.Future[Any]] = {*self._running, *others}
        await asyncio.wait(events, timeout=finite_s, return_when=asyncio.FIRST_COMPLETED)
        self._take(asyncio.get_running_loop().time())

    def _take(self, now_s: float) -> None:
        for task in [task for task in self._running if task.done()]:
            num_running = len(self._running)
            one = self._running.pop(task)
            outcome = task.result()
            _count(outcome, self._budget.limits)
            if isinstance(outcome, JudgeStopped):
                self._stop = self._stop or outcome  # other replies are paid for: keep them
            elif isinstance(outcome, Reply):
                self._take_reply(one, outcome, num_running)
            else:
                self._take_failure(one, outcome, now_s)

    def _take_reply(self, one: _Try, reply: Reply, num_running: int) -> None:
        self._log.add(one.review.digest, reply)
        self._to_write.set()
        self._breaker.succeeded()
        self._concurrency.succeeded(num_running)
        prompt, completion = reply.num_prompt_tokens, reply.num_completion_tokens
        if prompt is not None and completion is not None:  # else the estimate stands
            self._settle(one, prompt, completion)
            self._estimate.learn(one.review.request.num_characters, prompt, completion)
        self._finish(one, reply)

    def _take_failure(self, one: _Try, failure: ReviewFailed, now_s: float) -> None:
        if failure.fault is not Fault.UNUSABLE:
            self._settle(one, 0, 0)
        if failure.fault in (Fault.THROTTLED, Fault.OVERLOADED):
            num_in_a_row = self._concurrency.pushed_back(one.started_s, now_s)
            if failure.fault is Fault.THROTTLED and num_in_a_row:
                # It counts requests, whoever makes them: no other one would fare better.
                pause_s = failure.wait_s or self._retry.pause_s(num_in_a_row)
                self._paused_until_s = max(self._paused_until_s, now_s + pause_s)
        if failure.fault not in (None, Fault.THROTTLED):
            was_open = self._breaker.is_open
            self._breaker.failed(now_s, failure.message)
            if self._breaker.is_open and not was_open:  # nobody waits for minutes without a word
                log.warning("judge_fails_again_and_again", why=failure.message, goes_on="slowly")
        wait_s = self._retry.wait_s(failure, one.num_attempts, self._draw.random())
        if wait_s is None:
            self._finish(one, failure)
            return
        self._num_put_off += 1
        heapq.heappush(self._later, (now_s + wait_s, self._num_put_off, one))

    def _settle(self, one: _Try, prompt: int, completion: int) -> None:
        booked = one.prompt_tokens + one.completion_tokens
        self._pace.settle(booked, prompt + completion)
        self._budget.correct(prompt - one.prompt_tokens, completion - one.completion_tokens)

    def _finish(self, one: _Try, outcome: Outcome) -> None:
        self._done[one.review.digest] = outcome
        if isinstance(outcome, ReviewFailed):
            self._num_failed += 1
            count(of_pods.JUDGE_FAILED, outcome.reason)
        if self._progress is not None:
            self._progress(len(self._done), self._num_wanted, self._num_failed)

    def _give_up_all(self, failure: ReviewFailed) -> None:
        for one in [*self._queue, *(entry[2] for entry in self._later)]:
            self._finish(one, failure)
        self._queue.clear()
        self._later.clear()

    async def _let_finish(self) -> None:
        """Requests on their way are paid for: wait for them, if not for ever."""
        if self._running:
            await asyncio.wait(self._running, timeout=_GRACE_S)
            self._take(asyncio.get_running_loop().time())


def _count(outcome: Outcome | JudgeStopped, prices: BudgetLimits) -> None:
    if isinstance(outcome, Reply):
        prompt, completion = outcome.num_prompt_tokens or 0, outcome.num_completion_tokens or 0
        count(of_pods.JUDGE_REQUESTS, "replied")
        count(of_pods.JUDGE_TOKENS, "prompt", by=prompt)
        count(of_pods.JUDGE_TOKENS, "completion", by=completion)
        count(of_pods.JUDGE_COST, by=prices.price(prompt, completion))
    elif isinstance(outcome, JudgeStopped):
        count(of_pods.JUDGE_REQUESTS, "stopped")
    else:
        count(of_pods.JUDGE_REQUESTS, outcome.fault or "refused")


def _earlier(one_s: float, other_s: float | None) -> float:
    return one_s if other_s is None else min(one_s, other_s)


def _on_sigterm(loop: asyncio.AbstractEventLoop, came: asyncio.Future[None]) -> Callable[[], None]:
    """Have SIGTERM settle `came`, so that the asking ends in order; returns what undoes that."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = signal.getsignal(signal.SIGTERM)

    def settle() -> None:
        if not came.done():
            came.set_result(None)

    loop.add_signal_handler(signal.SIGTERM, settle)

    def restore() -> None:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)

    return restore
