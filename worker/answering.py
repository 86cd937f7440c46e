"""Answers a window of rows: media in, requests to the engine, finished rows out.

One thread, and those of `MediaAhead`, which prepare the media of the next rows while the engine
works on the rows before. A row that can't be answered becomes a failed row with its reason; the
others go on. Rows that were in an engine that died are asked again, each alone (`EngineTurn`): the
one that kills it again and again is given up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import structlog

from neva import stages, tracing
from neva.errors import NevaError, RowError
from neva.ledger import FinishedRow, ShardRow
from neva.metrics import of_workers
from neva.metrics.counting import count
from neva.prompting import Prompt
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import (
    GenerateRequest,
    GenerateResult,
    Outcome,
    SamplingParams,
)
from worker.engine_turn import EngineTurn
from worker.media.ahead import MediaAhead, MediaQueue
from worker.media.shared import PreparedMedia
from worker.outputs import OutputWriter, failed
from worker.stage_seconds import StageSeconds

log = structlog.get_logger()

_POLL_S = 0.05
_POLL_BESIDE_MEDIA_S = 0.01
_WAIT_FOR_ENGINE_S = 1.0


class Interrupted(NevaError):
    """The worker is draining, or lost the shard: what is finished is kept, the rest is not."""

    reason = Reason.DRAINED


@dataclass(slots=True)
class _Asked:
    """A row on its way."""

    row: ShardRow
    prompt: Prompt
    media: PreparedMedia
    num_alone: int = 0  # failed tries while it was alone in the engine
    end_span: Callable[[], None] = lambda: None  # of the present request


@dataclass(frozen=True, slots=True)
class Answerer:
    """Everything needed to answer rows of one job.

    Attributes:
        max_attempts: engines a row may kill, and times a transient failure is tried again.
        engine_start_s: how long to wait for an engine that is not there.
        engine_end_file: why the last engine ended; not there before the first end.
        seconds: where the time goes.
    """

    engine: EngineClient
    turn: EngineTurn
    media: MediaAhead
    prompts: RowPrompts
    outputs: OutputWriter
    sampling: SamplingParams
    rows_in_flight: int
    max_attempts: int
    engine_start_s: float
    engine_end_file: Path
    seconds: StageSeconds = field(default_factory=StageSeconds)

    def answer(
        self,
        rows: Iterable[ShardRow],
        attempt: int,
        finish: Callable[[FinishedRow], None],
        tick: Callable[[], None],
    ) -> None:
        """Answer `rows`, which come grouped by media.

        Args:
            finish: takes each finished row, in any order.
            tick: called many times a second; raises to interrupt.
        """
        _Run(self, attempt, finish, tick).run(rows)


@dataclass(slots=True)
class _Run:
    """One call of `Answerer.answer`."""

    job: Answerer
    attempt: int
    finish: Callable[[FinishedRow], None]
    tick: Callable[[], None]
    in_flight: dict[str, _Asked] = field(default_factory=dict)
    suspects: deque[_Asked] = field(default_factory=deque)
    users: dict[str, int] = field(default_factory=dict)  # pixel file → rows that need it

    def run(self, rows: Iterable[ShardRow]) -> None:
        try:
            with closing(self._prepared(rows)) as prepared:
                for asked in prepared:
                    self._make_room()
                    self._submit(asked)
                    self._collect(0)
                    if self.suspects:
                        self._settle()
            self._settle()
        finally:
            self.job.turn.leave()
            for path in self.users:
                Path(path).unlink(missing_ok=True)

    def _settle(self) -> None:
        """Finish every row that was submitted."""
        while self.in_flight or self.suspects:
            if self.in_flight:
                self._collect(_POLL_S)
            else:
                self.job.turn.leave()
                self._ask_alone(self.suspects.popleft())

    def _prepared(self, rows: Iterable[ShardRow]) -> Generator[_Asked]:
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.media_name)]
        names = [group[0].media_name for group in groups]
        with closing(self.job.media.begin(names)) as ahead:
            yield from self._prepared_groups(groups, ahead)

    def _prepared_groups(
        self, groups: Iterable[list[ShardRow]], ahead: MediaQueue
    ) -> Iterator[_Asked]:
        for asked_rows in groups:
            self._wait_for_media(ahead)
            try:
                media = ahead.take()
            except RowError as error:
                for row in asked_rows:
                    self.finish(failed(row, error.reason, error.message))
                continue
            self.users[media.ref.path] = self.users.get(media.ref.path, 0) + len(asked_rows)
            for row in asked_rows:
                try:
                    prompt = self.job.prompts.build(row.question)
                except RowError as error:
                    self._finish(media, failed(row, error.reason, error.message))
                    continue
                yield _Asked(row, prompt, media)

    def _wait_for_media(self, ahead: MediaQueue) -> None:
        """Return when the next media is ready; what the engine answers meanwhile is taken."""
        self.tick()
        while not ahead.ready(0):
            if self.in_flight:
                self._collect(_POLL_BESIDE_MEDIA_S)
                continue
            with self.job.seconds.measure(stages.WAIT_FOR_MEDIA):
                ahead.ready(_POLL_S)
            self.tick()

    def _make_room(self) -> None:
        """Wait until one more row may be in flight, and this process may use the engine."""
        while len(self.in_flight) >= self.job.rows_in_flight:
            self._collect(_POLL_S)
        while not self.job.turn.share():
            # Somebody wants the engine alone: finish what is in it and step aside.
            if self.in_flight:
                self._collect(_POLL_S)
            else:
                self.job.turn.leave()
                self.tick()
                time.sleep(_POLL_S)

    def _submit(self, asked: _Asked) -> None:
        self._wait_for_engine()
        try:
            self._send(asked)
        except EngineLost as lost:
            self._engine_died(lost)

    def _send(self, asked: _Asked) -> None:
        self.in_flight[asked.row.row_id] = asked
        asked.end_span = tracing.begin("engine request", row=asked.row.row_id)
        self.job.engine.submit(self._request(asked))

    def _arrived(self, outcome: Outcome) -> _Asked | None:
        """The row that it is about; None of one that was given up meanwhile."""
        asked = self.in_flight.pop(outcome.request_id, None)
        if asked is not None:
            asked.end_span()
        return asked

    def _request(self, asked: _Asked) -> GenerateRequest:
        return GenerateRequest(
            request_id=asked.row.row_id,
            row_key=asked.row.row_id,
            before_ids=asked.prompt.before_ids,
            num_media_tokens=asked.prompt.num_media_tokens,
            after_ids=asked.prompt.after_ids,
            media=asked.media.ref,
            sampling=self.job.sampling,
        )

    def _collect(self, timeout_s: float) -> None:
        self.tick()
        try:
            with self.job.seconds.measure(stages.ENGINE):
                outcomes = self.job.engine.poll(timeout_s)
        except EngineLost as lost:
            self._engine_died(lost)
            return
        for outcome in outcomes:
            asked = self._arrived(outcome)
            if asked is not None:
                self._take(asked, outcome)

    def _take(self, asked: _Asked, outcome: Outcome, *, alone: bool = False) -> None:
        if isinstance(outcome, GenerateResult):
            row = self.job.outputs.answered(
                asked.row, asked.prompt, outcome, asked.media, self.attempt
            )
            count(of_workers.ROWS_ANSWERED)
            count(of_workers.PROMPT_TOKENS, by=asked.prompt.num_tokens)
            count(of_workers.ANSWER_TOKENS, by=len(outcome.token_ids))
            self._finish(asked.media, row)
        elif outcome.retryable:
            if alone:
                self._tried_alone(asked, outcome.reason, outcome.message)
            else:
                count(of_workers.ROW_RETRIES, outcome.reason)
                self.suspects.append(asked)
        else:
            self._finish(asked.media, failed(asked.row, outcome.reason, outcome.message))

    def _finish(self, media: PreparedMedia, row: FinishedRow) -> None:
        path = media.ref.path
        self.users[path] -= 1
        if not self.users[path]:
            del self.users[path]
            Path(path).unlink(missing_ok=True)
        self.finish(row)

    def _engine_died(self, lost: EngineLost) -> None:
        log.warning("engine lost", error=lost.message, rows=len(self.in_flight))
        count(of_workers.ROW_RETRIES, Reason.ENGINE_CRASHED, by=len(self.in_flight))
        for asked in self.in_flight.values():
            asked.end_span()
        self.suspects.extend(self.in_flight.values())
        self.in_flight.clear()
        self.job.turn.leave()

    def _ask_alone(self, asked: _Asked) -> None:
        """Ask one row with the engine to itself, until it is answered or given up."""
        with structlog.contextvars.bound_contextvars(row=asked.row.row_id):
            self._ask_this_alone(asked)

    def _ask_this_alone(self, asked: _Asked) -> None:
        while not self.job.turn.take_alone():
            self.tick()
            time.sleep(_POLL_S)
        self._wait_for_engine()
        log.info("row asked alone", num_failed=asked.num_alone)
        try:
            self._send(asked)
            while asked.row.row_id in self.in_flight:
                self.tick()
                for outcome in self.job.engine.poll(_POLL_S):
                    if self._arrived(outcome) is not None:
                        self._take(asked, outcome, alone=True)
        except EngineLost as lost:
            del self.in_flight[asked.row.row_id]
            asked.end_span()
            self._tried_alone(asked, Reason.ENGINE_CRASHED, lost.message + self._engines_end())
        finally:
            self.job.turn.leave()

    def _tried_alone(self, asked: _Asked, reason: Reason, message: str) -> None:
        asked.num_alone += 1
        if asked.num_alone < self.job.max_attempts:
            count(of_workers.ROW_RETRIES, reason)
            self.suspects.append(asked)
            return
        words = f"{message} ({asked.num_alone} times with this row alone)"
        self._finish(asked.media, failed(asked.row, reason, words))

    def _engines_end(self) -> str:
        """What the supervisor knows and the socket can't tell: out of memory, say."""
        try:
            words = self.job.engine_end_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        return f"; the last engine that ended: {words}"

    def _wait_for_engine(self) -> None:
        """Return once an engine answers. Only its absence is waited for, not its work."""
        if self.in_flight:
            return
        deadline_s = time.monotonic() + self.job.engine_start_s
        while True:
            self.tick()
            try:
                with self.job.seconds.measure(stages.WAIT_FOR_ENGINE):
                    self.job.engine.status(_WAIT_FOR_ENGINE_S)
            except EngineLost:
                if time.monotonic() > deadline_s:
                    raise
                continue
            return
