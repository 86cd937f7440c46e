"""What the live view shows, as plain values made of what was seen. No IO, no HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.status.run_status import RunPhase, RunStatus
from controller.status.words import sign_of_life
from controller.ui.bounded import MOST_BYTES
from controller.ui.chart import Chart, chart
from controller.ui.reader import Answered, RunSeen
from controller.ui.timeline import throughput
from neva.answer_record import answer_of, media_of, question_of
from neva.conditions import Phase
from neva.pages import visible
from neva.rate import span
from neva.timings import timings_words

StageState = Literal["done", "now", "waits", "held", "next", "bad"]

_MOST_TEXT = 1_000  # characters of a question, an answer or a message


@dataclass(frozen=True, slots=True)
class JobLine:
    """A job in the list of jobs.

    Attributes:
        id: names it in this page's addresses.
        place: namespace, or where its output lies.
        total: rows; 0: not known yet.
        failed: rows, among `done`.
        rate, left, score: in words; "": not known.
        note: why it waits or failed; "": nothing to say.
    """

    id: str
    name: str
    place: str
    phase: str
    done: int = 0
    total: int = 0
    failed: int = 0
    rate: str = ""
    left: str = ""
    score: str = ""
    note: str = ""

    @property
    def answered_percent(self) -> float:
        return percent(self.done - self.failed, self.total)

    @property
    def failed_percent(self) -> float:
        return percent(self.failed, self.total)


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of a run's course."""

    name: str
    state: StageState
    words: str
    percent: float | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A row that failed."""

    where: str
    message: str
    question: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Rows that failed for one reason: how many, and some of them."""

    reason: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answered row."""

    key: str
    row_id: str
    category: str
    question: str
    text: str


@dataclass(frozen=True, slots=True)
class Clip:
    """Neighbouring answers about one video or image.

    Attributes:
        frames: the name of their picture; "": there is none.
    """

    key: str
    media: str
    frames: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class RunView:
    """One job in full.

    Attributes:
        line: what the list says of it.
        time_words: where the workers' time went; "": not known yet.
        unread: what is not shown for its size; "": nothing.
    """

    line: JobLine
    life: str
    advice: str
    counts: tuple[tuple[str, str], ...]
    stages: tuple[Stage, ...]
    chart: Chart | None
    failures: tuple[FailureGroup, ...]
    clips: tuple[Clip, ...]
    time_words: str
    facts: tuple[tuple[str, str], ...]
    has_report: bool
    unread: str


_STATES: Mapping[RunPhase, StageState] = {
    RunPhase.INTERRUPTED: "held",
    RunPhase.SUSPENDED: "held",
    RunPhase.CANCELLED: "held",
    RunPhase.SUCCEEDED: "held",  # what it has not done by then, it won't
    RunPhase.FAILED: "bad",
}


def percent(part: float, whole: float) -> float:
    return round(100 * min(max(part / whole, 0.0), 1.0), 2) if whole else 0.0


def job_line(status: RunStatus, run_id: str) -> JobLine:
    """A run that only its ledger knows."""
    facts = status.facts
    rate = "" if status.rows_per_s is None else f"{status.rows_per_s:.1f}"
    return JobLine(
        run_id,
        visible(status.name),
        visible(facts.uri),
        status.phase.value,
        facts.num_done,
        status.num_rows,
        facts.num_failed,
        rate,
        "" if status.eta_s is None else span(status.eta_s),
        score="",
        note=visible(status.advice),
    )


def run_view(seen: RunSeen, run_id: str, cluster_line: JobLine | None = None) -> RunView:
    """A run in full.

    Args:
        cluster_line: the job as a cluster knows it, which knows its phase and why it waits.
    """
    status = seen.status
    facts = status.facts
    line, waits = job_line(status, run_id), False
    if cluster_line is not None:
        waits = cluster_line.phase in (Phase.QUEUED, Phase.PENDING)
        line = replace(
            line,
            name=cluster_line.name,
            place=cluster_line.place,
            phase=cluster_line.phase,
            rate=line.rate or cluster_line.rate,
            left=line.left or cluster_line.left,
            score=cluster_line.score,
            note=cluster_line.note,  # a ledger's advice is for those who run it themselves
        )
    ended_s = facts.last_write_s if status.phase.is_final else facts.now_s
    history = throughput(seen.finished, facts.files.first_claim_s, ended_s)
    return RunView(
        line,
        sign_of_life(status) or "",
        line.note,
        tuple(_counts(line)),
        tuple(stages(status, waits=waits)),
        None if history is None else chart(history, is_over=status.phase.is_final),
        tuple(_failures(facts.failed_by_reason, seen.failures)),
        tuple(clips(seen.answers)),
        timings_words(dict(seen.stage_s)) or "",
        tuple(_facts(status)),
        seen.has_report,
        _unread(seen.num_unread),
    )


def _counts(line: JobLine) -> Iterable[tuple[str, str]]:
    if not line.total:
        return
    yield "prompts", f"{line.total:,}"
    yield "answered", f"{line.done - line.failed:,}"
    yield "failed", f"{line.failed:,}"
    if line.rate:
        yield "rows per second", line.rate
    if line.left:
        yield "left, about", line.left
    if line.score:
        yield "score", line.score


def stages(status: RunStatus, *, waits: bool = False) -> Iterable[Stage]:
    """The steps of a run in order, each with how far it is.

    Args:
        waits: a cluster has no place for it yet, which a ledger can't know.
    """
    facts, phase = status.facts, status.phase
    now = "waits" if waits else _STATES.get(phase, "now")
    if facts.manifest is None:
        words = "too many rows are bad" if facts.refused else "store and prompts are checked"
        yield Stage("Prepare", now, words)
        yield Stage("Answer", "next", "")
        yield Stage("Merge", "next", "")
        return
    yield Stage(
        "Prepare", "done", f"{status.num_rows:,} rows in {_number(status.num_shards, 'shard')}"
    )
    answered = facts.num_committed == status.num_shards
    words = f"{facts.num_done:,} of {status.num_rows:,} rows"
    if not answered:
        words += f"; {_number(facts.num_working, 'shard')} at work"
    far = percent(facts.num_done, status.num_rows)
    yield Stage("Answer", "done" if answered else now, words, far)
    merged = facts.summary is not None
    merging = answered and not merged
    yield Stage("Merge", "done" if merged else now if merging else "next", "outputs, report")
    if status.judge is not None:
        judging = facts.judging or (phase.is_final and merged)
        state: StageState = "done" if facts.judge is not None else now if judging else "next"
        yield Stage("Judge", state, status.judge)


def _unread(count: int) -> str:
    if not count:
        return ""
    files, limit = _number(count, "file"), f"{MOST_BYTES >> 20} MiB"
    return f"Rows of {files} above {limit} are not shown here; the run's outputs have them."


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _failures(
    counts: Mapping[str, int], examples: Mapping[str, Sequence[Mapping[str, object]]]
) -> Iterable[FailureGroup]:
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        found = tuple(_example(error) for error in examples.get(reason, ()))
        yield FailureGroup(visible(reason), count, found)


def _example(error: Mapping[str, object]) -> Example:
    record = error.get("record")
    where = f"line {error.get('line')}"
    if error.get("question_id") is not None:
        where += f", question {error['question_id']}"
    asked = question_of(record) if isinstance(record, Mapping) else None
    return Example(cut(where), cut(error.get("message") or ""), "" if asked is None else cut(asked))


def clips(answers: Iterable[Answered]) -> Iterable[Clip]:
    """Answers in their order; neighbours about one video share its frames."""
    found: list[Clip] = []
    for one in answers:
        record = one.row.output or {}
        media = cut(media_of(record) or "")
        answer = _answer(one.row.row_id, record)
        last = found[-1] if found else None
        if last is not None and last.media == media:
            found[-1] = Clip(last.key, media, last.frames, (*last.answers, answer))
        else:
            frames = "" if one.frames is None else one.frames.rpartition("/")[2]
            found.append(Clip(f"{answer.key} {media}", media, frames, (answer,)))
    return found


def _answer(row_id: str, record: Mapping[str, object]) -> Answer:
    text, category = answer_of(record), record.get("category")
    return Answer(
        cut(row_id),
        cut(row_id),
        "" if category is None else cut(category),
        cut(question_of(record) or ""),
        cut(text) if isinstance(text, str) else "",
    )


def _facts(status: RunStatus) -> Iterable[tuple[str, str]]:
    yield "output", visible(status.facts.uri)
    manifest = status.facts.manifest
    if manifest is None:
        return
    for name, block, key in (("model", "model", "uri"), ("prompts", "input", "prompts")):
        found = manifest.job["spec"].get(block)
        if isinstance(found, Mapping) and found.get(key):
            yield name, cut(found[key])
    yield "run", visible(manifest.run_id)


def cut(value: object) -> str:
    """Harmless text of bounded length."""
    text = visible(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"
