"""Has a list of reviews answered: a bounded number at a time, each reply kept as it comes.

Owns the threads and the order of writing. Knows nothing of scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from judge.client import JudgeClient, Reply
from judge.errors import JudgeStopped, ReviewFailed
from judge.plan import PlannedReview
from judge.replies import ReplyLog

_FLUSH_REPLIES = 16
_FLUSH_INTERVAL_S = 5.0
_LOST_IN_A_ROW = 10
_GRACE_S = 5.0

Progress = Callable[[int, int, int], None]
"""Called with reviews done, reviews in all, and those of them that failed."""


def ask_all(
    reviews: Sequence[PlannedReview],
    *,
    known: Mapping[str, Reply],
    client: JudgeClient,
    log: ReplyLog,
    concurrency: int,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Reply | ReviewFailed]:
    """The judge's reply, or its failure, for each distinct digest in `reviews`.

    Args:
        known: replies of earlier runs; they are not asked for again.
        log: gets every new reply, flushed every few replies or seconds, and on any way out.

    Raises:
        JudgeStopped: at the first refused key; replies had until then are written.
    """
    wanted = {review.digest: review for review in reviews}
    done: dict[str, Reply | ReviewFailed] = {d: known[d] for d in wanted if d in known}
    queue = iter([review for digest, review in wanted.items() if digest not in done])
    fuse = _Fuse(max(_LOST_IN_A_ROW, 2 * concurrency))
    running: dict[Future[Reply], str] = {}
    failed, flushed_at = 0, clock()
    # Without a `with`: leaving on an error must not wait for a request that hangs.
    pool = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="judge")
    try:
        while True:
            _fill(running, queue, concurrency, lambda r: pool.submit(client.review, r.request))
            if not running:
                return done
            stopped: JudgeStopped | None = None
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                digest = running.pop(future)
                outcome = _outcome(future)
                if isinstance(outcome, JudgeStopped):
                    stopped = outcome
                    continue  # the other replies of this round are paid for: keep them
                done[digest] = outcome
                if isinstance(outcome, Reply):
                    log.add(digest, outcome)
                else:
                    failed += 1
                fuse.note(outcome)
                if progress is not None:
                    progress(len(done), len(wanted), failed)
            if stopped is not None:
                raise stopped
            if log.num_waiting >= _FLUSH_REPLIES or clock() - flushed_at >= _FLUSH_INTERVAL_S:
                log.flush()
                flushed_at = clock()
            if fuse.blown:
                for review in queue:
                    done[review.digest] = ReviewFailed(fuse.message)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        try:
            # Requests on their way are paid for; on an orderly end there are none.
            for future in wait(running, timeout=_GRACE_S).done:
                if not future.cancelled() and future.exception() is None:
                    log.add(running[future], future.result())
        finally:
            log.flush()


class _Fuse:
    """Stops asking an endpoint that is plainly down.

    Every review waits out its own retries; without this a dead endpoint would cost that time for
    every question of the file.
    """

    def __init__(self, most_lost_in_a_row: int) -> None:
        self._most = most_lost_in_a_row
        self._lost = 0
        self.message = f"not asked: the judge failed {most_lost_in_a_row} times in a row"

    @property
    def blown(self) -> bool:
        return self._lost >= self._most

    def note(self, outcome: Reply | ReviewFailed) -> None:
        lost = isinstance(outcome, ReviewFailed) and outcome.retryable
        self._lost = self._lost + 1 if lost else 0


def _fill(
    running: dict[Future[Reply], str],
    queue: Iterator[PlannedReview],
    most: int,
    submit: Callable[[PlannedReview], Future[Reply]],
) -> None:
    while len(running) < most:
        review = next(queue, None)
        if review is None:
            return
        running[submit(review)] = review.digest


def _outcome(future: Future[Reply]) -> Reply | ReviewFailed | JudgeStopped:
    try:
        return future.result()
    except (ReviewFailed, JudgeStopped) as failure:
        return failure
