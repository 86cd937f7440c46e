"""The law: what must hold after every step, and at the end, whatever happens.

* What decides (manifest, claims, parts, releases, commits) is never written over.
* A fenced attempt writes no part and no commit.
* No row is computed by an attempt that could have read its answer.
* A row is given up only if it killed, alone, as often as it may (or whoever had it alone was
  killed from outside as often: nobody can tell that from the row's doing).
* A drain keeps what is finished, releases without counting, and leaves no lease.
* No error ends the job, unless somebody tampered with the ledger; then the merge must refuse.
* What a retry would ask are the failed rows alone, whole.
* At the end each row stands once in outputs or errors, with the reference's bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from controller.retry.base import BaseRun
from neva.errors import NevaError
from neva.lease import Lease
from neva.ledger import Claim, FinishedRow, Ledger, LedgerCorrupt, ShardRow, layout
from neva.reasons import Reason
from tests.ledger_model.scheduler import Process

if TYPE_CHECKING:
    from tests.ledger_model.world import World

_LEASE_TTL_S = 6.0
_FILE = re.compile(r"shards/(\d+)/attempts/(\d+)/(claim|release|part-\d+)\.jsonl?")
_COMMIT = re.compile(r"shards/(\d+)/commit\.json")


class Violation(AssertionError):
    """Something happened that must never happen."""


@dataclass(slots=True, eq=False)
class Made:
    """An attempt, as the world saw it.

    Attributes:
        finished_before: rows whose answers could be read when it was claimed.
        finished: rows in its own parts.
        fenced: it learned that it lost the lease.
        excuse: why it may be counted as a death: a row, "outside", "lease"; None while it lives.
    """

    shard: int
    number: int
    process: Process | None
    row_ids: frozenset[str]
    finished_before: frozenset[str]
    num_flushes: int
    finished: set[str]
    fenced: bool = False
    excuse: str | None = None
    orderly: bool = False


class Watch:
    """Looks at everything that a world does.

    Attributes:
        last_put_s: when anything was written last.
        num_flushes: how often the broker lost everything.
        killer_row: the row that kills the process which is about to be killed.
        tampered: somebody changed the ledger behind everybody's back.
        refused: the merge said so.
        is_merging: some controller has begun to read what it merges.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._made: dict[tuple[int, int], Made] = {}
        self._last_beat_s: dict[Process, float] = {}
        self._problem: str | None = None
        self.num_flushes = 0
        self.last_put_s = 0.0
        self.killer_row: str | None = None
        self.tampered = self.refused = self.is_merging = False
        world.store.about_to_put = self._about_to_put
        world.store.was_put = self._was_put
        world.scheduler.before_kill = self._killed
        world.scheduler.answered = self._answered

    def check(self) -> None:
        if self._problem is not None:
            raise Violation(self._problem)

    def _must(self, holds: bool, problem: str) -> None:
        # Raised at the next check: here it could be caught by the code under test.
        if not holds and self._problem is None:
            self._problem = problem

    # Told by store, broker and scheduler

    def _about_to_put(self, key: str) -> None:
        made = self._current(key)
        if made is not None and made.process is self._world.scheduler.current:
            self._must(not made.fenced, f"{key}: attempt {made.number} had lost its lease")

    def _current(self, key: str) -> Made | None:
        """The attempt that writes this part or commit."""
        if (match := _FILE.fullmatch(key)) and match[3].startswith("part"):
            return self._made.get((int(match[1]), int(match[2])))
        if match := _COMMIT.fullmatch(key):
            mine = [m for m in self._made.values() if m.shard == int(match[1])]
            process = self._world.scheduler.current
            return next((m for m in reversed(mine) if m.process is process), None)
        return None

    def _was_put(self, key: str, data: bytes, old: bytes | None) -> None:
        self.last_put_s = self._world.scheduler.now_s
        match = _FILE.fullmatch(key)
        decides = match is not None or key == layout.MANIFEST or _COMMIT.fullmatch(key)
        self._must(not decides or old in (None, data), f"{key} was written over")
        if match is None:
            return
        shard, number, name = int(match[1]), int(match[2]), match[3]
        if name == "claim":
            self._claimed(shard, number, Claim.from_json(data, key))
        elif name == "release":
            self._made[shard, number].orderly = not orjson.loads(data)["counts"]
        else:
            for line in data.splitlines():
                self._finished(self._made[shard, number], FinishedRow.from_json(line, key))

    def _claimed(self, shard: int, number: int, claim: Claim) -> None:
        if (shard, number) in self._made:
            return  # the same PUT again
        process = self._asking
        before = [made for made in self._made.values() if made.shard == shard]
        for made in before:
            if made.excuse is None and not made.orderly and self._lost_lease(made):
                made.excuse = "lease"
        finished = frozenset().union(*(made.finished for made in before))
        rows = frozenset(claim.row_ids)
        self._made[shard, number] = Made(
            shard, number, process, rows, finished, self.num_flushes, set()
        )

    def _lost_lease(self, made: Made) -> bool:
        """Whether its lease was gone through no fault of the code's."""
        if made.process is None or self.num_flushes != made.num_flushes:
            return True
        silent_s = self._world.scheduler.now_s - self._last_beat_s.get(made.process, float("-inf"))
        return silent_s >= _LEASE_TTL_S

    def _finished(self, made: Made, row: FinishedRow) -> None:
        made.finished.add(row.row_id)
        if row.error is not None:
            self._must(
                row.error["reason"] == Reason.WORKER_CRASHED
                and self._may_give_up(made, row.row_id),
                f"row {row.row_id} was given up in attempt {made.number}, but killed too few",
            )

    def _may_give_up(self, giving_up: Made, row_id: str) -> bool:
        alone = [
            made
            for made in self._made.values()
            if made.shard == giving_up.shard
            and made.number < giving_up.number
            and made.excuse is not None
            and not made.orderly
            and made.row_ids - made.finished == {row_id}
        ]
        return len(alone) >= self._world.setup.max_attempts

    def _answered(self, process: Process, verb: str, key: str, answer: Any) -> None:
        """A process got an answer: what does it know now?"""
        mine = [made for made in self._made.values() if made.process is process]
        self.is_merging |= verb == "get" and key.startswith(f"{layout.INPUTS}rejected-")
        if verb in ("take", "beat") and answer:
            self._last_beat_s[process] = self._world.scheduler.now_s
        if not mine:
            return
        made = mine[-1]
        later = layout.claim(made.shard, made.number + 1)
        told_by_broker = verb == "beat" and answer == 0 and key.endswith(f":{made.shard}")
        told_by_ledger = verb == "head" and answer and key in (later, layout.commit(made.shard))
        made.fenced |= told_by_broker or bool(told_by_ledger)

    @property
    def _asking(self) -> Process | None:
        return self._world.scheduler.asking

    def _killed(self, process: Process) -> None:
        row, self.killer_row = self.killer_row, None
        for made in self._made.values():
            if made.process is process and made.excuse is None and not made.orderly:
                made.excuse = row or "outside"

    # Told by workers and controllers

    def computes(self, process: Process, row: ShardRow, attempt: int) -> None:
        mine = [m for m in self._made.values() if m.process is process and m.number == attempt]
        # What somebody took out of a part can't be known.
        known = bool(mine) and row.row_id in mine[-1].finished_before and not self.tampered
        self._must(not known, f"row {row.row_id} was computed again in attempt {attempt}")

    def reported(self, error: NevaError) -> None:
        if self.tampered and isinstance(error, LedgerCorrupt):
            self.refused = True
            return
        self._must(error.retryable, f"the job ends for no reason: {error!r}")

    def drained(self, process: Process, shard: int, finished: list[str]) -> None:
        made = [m for m in self._made.values() if m.process is process and m.shard == shard][-1]
        if process.disturbed or made.fenced:
            return
        self._must(made.orderly, f"a drain of attempt {made.number} counts")
        lost = set(finished) - made.finished
        self._must(not lost, f"a drain lost rows {sorted(lost)}")
        held = self._world.server.peek(f"neva:{self._world.run_id}:lease:{shard}")
        mine = held is not None and Lease.decode(held.decode()).attempt == made.number
        self._must(not mine, "a drain left its lease")

    # The end

    def check_end(self) -> None:
        self.check()
        if self.tampered:
            self._must(self.refused, "the merge took what somebody had changed")
            self.check()
            return
        objects = self._world.store.objects
        outputs = [orjson.loads(line) for line in objects[layout.OUTPUTS].splitlines()]
        errors = [orjson.loads(line) for line in objects[layout.ERRORS].splitlines()]
        for output in outputs:
            row = self._world.rows[str(output["question_id"])]
            expected = orjson.dumps({**row.record, "response": f"answer to {row.row_id}"})
            attempt = output.pop("attempt")
            self._must(
                orjson.dumps(output) == expected, f"{output}, attempt {attempt}: {expected!r}"
            )
        for error in errors[: len(errors) - 1]:  # but the refused line, which is last
            record = self._world.rows[str(error["line"] - 1)].record
            self._must(error.get("record") == record, f"{error} can't be retried")
        base = BaseRun(Ledger(self._world.store), self._world.manifest, 0, 0)
        retried = sorted(row.seq for row in base.failed())
        lost = [error["line"] - 1 for error in errors[: len(errors) - 1]]
        self._must(retried == lost, f"rows {retried} would be retried, {lost} failed")
        answered = [output["question_id"] for output in outputs]
        failed = [error["line"] - 1 for error in errors]
        self._must(answered == sorted(answered), "outputs are not in the order of the input")
        self._must(
            sorted(answered + failed) == list(range(len(self._world.rows) + 1)),
            f"rows answered {answered}, failed {failed}",
        )
        ledger = Ledger(self._world.store)
        self._must(ledger.read_manifest() == self._world.manifest, "another manifest")
        self.check()
