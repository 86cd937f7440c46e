"""One run as the live view shows it, read from its ledger; what never changes is read once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from controller.status.facts import Facts, ShardFiles, list_files, look
from controller.status.run_status import RunStatus, run_status
from controller.ui.bounded import MOST_BYTES, bounded
from controller.ui.failures import Failures
from controller.ui.timeline import Finished, finished_parts, shares
from neva.answer_record import media_key, media_of
from neva.ledger import FinishedRow, Ledger, Manifest, PartRef, layout
from neva.store import open_store
from neva.store.base import ObjectInfo
from neva.timings import read_timings

NUM_ANSWERS = 8
_NEW_PARTS_A_LOOK = 6
# A full listing of more shards than this would take many seconds: the chart then begins now.
_MAX_HISTORY_SHARDS = 5_000
_LOOKS_PER_TIMINGS = 15
_FINAL_AGE_S = 30.0
_LATE_S = 10.0  # a part may be listed so long after newer ones


@dataclass(frozen=True, slots=True)
class Answered:
    """An answered row, and where the frames lie that the model saw; None: none were kept."""

    row: FinishedRow
    frames: str | None


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One look at a run.

    Attributes:
        answers: the newest, last first.
        failures: some lines of errors by reason.
        finished: when rows were finished.
        stage_s: where the workers' time went, seconds by stage.
        num_unread: parts and shards that are too large to be read.
    """

    status: RunStatus
    answers: tuple[Answered, ...] = ()
    failures: Mapping[str, tuple[Mapping[str, object], ...]] = field(default_factory=dict)
    finished: tuple[Finished, ...] = ()
    stage_s: Mapping[str, float] = field(default_factory=dict)
    has_report: bool = False
    num_unread: int = 0


class RunReader:
    """Looks at the run under one URI. Several threads may ask; one look is made at a time."""

    def __init__(self, uri: str) -> None:
        self.ledger = Ledger(bounded(open_store(uri)))
        self._lock = threading.Lock()
        self._status: RunStatus | None = None
        self._status_s = 0.0
        self._answers = Answers(self.ledger)
        self._failures = Failures(self.ledger)
        self._history = History(self.ledger)
        self._num_looks = 0
        self._stage_s: dict[str, float] = {}

    @property
    def uri(self) -> str:
        return self.ledger.store.base_uri

    def status(self, max_age_s: float) -> RunStatus:
        """How far it is, by a look that is not older; what has ended is looked at less often.

        Raises ConfigError when there is no run, StoreError when the store can't be had.
        """
        with self._lock:
            known = self._status
            if known is not None:
                allowed_s = max(max_age_s, _FINAL_AGE_S) if known.phase.is_final else max_age_s
                if time.monotonic() - self._status_s <= allowed_s:
                    return known
            return self._look()

    def see(self) -> RunSeen:
        """Everything, by a look of now; raises as `status`."""
        with self._lock:
            status = self._look()
            facts = status.facts
            if facts.manifest is None:
                return RunSeen(status)
            self._history.add(facts, facts.manifest)
            self._answers.add(facts.files)
            self._failures.add(facts, facts.manifest, self._history.committed, self._answers.read)
            if self._num_looks % _LOOKS_PER_TIMINGS == 0:
                self._stage_s = read_timings(self.ledger.store)
            self._num_looks += 1
            has_report = (
                facts.summary is not None and self.ledger.store.head(layout.REPORT) is not None
            )
            return RunSeen(
                status,
                tuple(self._answers.newest),
                self._failures.examples(),
                tuple(self._history.finished(facts)),
                self._stage_s,
                has_report,
                self._answers.num_unread + self._failures.num_unread,
            )

    def _look(self) -> RunStatus:
        self._status = run_status(look(self.ledger))
        self._status_s = time.monotonic()
        return self._status


class Answers:
    """The newest answers, out of the newest parts.

    Attributes:
        newest: last first.
        read: rows of the parts that the last `add` read.
        num_unread: parts that were too large.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: set[str] = set()
        self._newest_s = 0.0
        self.newest: deque[Answered] = deque(maxlen=NUM_ANSWERS)
        self.read: list[FinishedRow] = []
        self.num_unread = 0

    def add(self, files: ShardFiles) -> None:
        """Read the newest parts that were not there at the last look, some of them."""
        parts = [part for several in files.parts.values() for part in several]
        parts.sort(key=_written, reverse=True)
        # A listing may show old parts again, those of the neighbours of open shards.
        since_s = self._newest_s - _LATE_S
        fresh = [part for part in parts if part.key not in self._known]
        new = [part for part in fresh if _written(part)[0] >= since_s][:_NEW_PARTS_A_LOOK]
        self.read = []
        for part in reversed(new):
            if part.size_bytes > MOST_BYTES:
                self.num_unread += 1
                continue
            rows = list(self._ledger.read_parts([PartRef(part.key, "")]))
            self.read += rows
            for row in [row for row in rows if row.output is not None][-NUM_ANSWERS:]:
                self.newest.appendleft(Answered(row, self._frames(row)))
        self._known = {part.key for part in parts}
        self._newest_s = max(self._newest_s, *(_written(part)[0] for part in parts[:1]), 0.0)

    def _frames(self, row: FinishedRow) -> str | None:
        name = media_of(row.output or {})
        key = None if name is None else layout.frames(media_key(name))
        # A worker writes the frames of a video before the answers about it.
        return key if key is not None and self._ledger.store.head(key) is not None else None


def _written(part: ObjectInfo) -> tuple[float, str]:
    return part.modified_s or 0.0, part.key


class History:
    """When rows were finished, since the run began, or since it is watched if it is very large.

    Attributes:
        committed: shards that are known to be done, in the order in which that was seen.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._finished: list[Finished] = []
        self._started = False
        self.committed: dict[int, None] = {}

    def add(self, facts: Facts, manifest: Manifest) -> None:
        """Take what a look has seen; the first time, list what it left out."""
        if not self._started:
            left_out = facts.num_committed - len(facts.files.committed)
            if 0 < left_out <= _MAX_HISTORY_SHARDS:
                numbers = [plan.number for plan in manifest.shards]
                self._take(list_files(self._ledger, numbers), manifest)
            self._started = True
        self._take(facts.files, manifest)

    def finished(self, facts: Facts) -> list[Finished]:
        """Rows of committed shards, and those of open ones by their parts."""
        opened = {
            number: parts
            for number, parts in facts.files.parts.items()
            if number not in self.committed and number not in facts.files.committed
        }
        return [*self._finished, *finished_parts(opened, shares(opened, facts.num_open_done))]

    def _take(self, files: ShardFiles, manifest: Manifest) -> None:
        new = files.committed.keys() - self.committed.keys()
        if not new:
            return
        rows_of = {plan.number: plan.num_rows for plan in manifest.shards if plan.number in new}
        parts = {number: files.parts.get(number, []) for number in new}
        self._finished += finished_parts(parts, rows_of)
        self.committed.update(dict.fromkeys(sorted(new)))
