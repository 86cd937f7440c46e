"""One run under blows, from its start to the verdict."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from neva.errors import NevaError
from tests.chaos.blows import Blow, Stopped, draw, strike
from tests.chaos.jobs import Answers, differences, read_answers
from tests.chaos.world import World, everybody, kill_marked, left_behind

_LOOK_S = 0.03
_VACANT_S = 1.0  # a blow at a role that nobody fills is given up after so long
_GONE_S = 15.0  # what was killed may take so long to be gone


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often.

    Attributes:
        num_blows: processes hit, at least, unless the run ends before.
        patience_s, max_rows: see `draw`.
        stuck_s: without any progress for so long, a run counts as stuck.
    """

    num_blows: int
    patience_s: float
    stuck_s: float
    lease_ttl_s: float
    max_rows: int = 8


@dataclass
class Verdict:
    """What became of a run."""

    hits: Counter[str] = field(default_factory=Counter)
    num_at_work: int = 0  # blows after which rows had been computed since the one before
    num_rows: int = 0
    num_recomputed: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    stuck: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def num_kills(self) -> int:
        return sum(self.hits.values())

    @property
    def good(self) -> bool:
        return not (self.problems or self.lost or self.doubled or self.different or self.stuck)


def run(world: World, expected: Answers | None, limits: Limits, seed: int) -> Verdict:
    """Bring the job to its end under blows, then look at everything it leaves.

    expected: the undisturbed run's answers; None: this is that run.
    """
    verdict = Verdict()
    stopped = Stopped()
    try:
        _blows_until_the_end(world, limits, random.Random(seed), verdict, stopped)
        stopped.continue_due(everybody=True)
        if not verdict.stuck:
            judge(world, expected, verdict)
    finally:
        stopped.continue_due(everybody=True)
        world.close()
        kill_marked(world.job)
    return verdict


def _blows_until_the_end(
    world: World, limits: Limits, rng: random.Random, verdict: Verdict, stopped: Stopped
) -> None:
    watch = Watch(world, limits.stuck_s)
    blow: Blow | None = None
    drawn_s, rows_then = 0.0, 0
    while not world.keep():
        stopped.continue_due()
        if watch.stuck(also=verdict.num_kills):
            verdict.stuck = True
            _tell_everything(world)
            return
        if verdict.num_kills < limits.num_blows:
            if blow is None:
                blow = draw(rng, limits.lease_ttl_s, limits.patience_s, limits.max_rows)
                drawn_s, rows_then = time.monotonic(), num_computed(world)
            rows = num_computed(world) - rows_then
            if rows >= blow.after_rows or time.monotonic() - drawn_s >= blow.after_s:
                num_hit = strike(world, blow, stopped)
                if num_hit:
                    verdict.hits[f"{blow.role.value}: {blow.what}"] += num_hit
                    verdict.num_at_work += num_hit if rows else 0
                if num_hit or time.monotonic() - drawn_s > blow.after_s + _VACANT_S:
                    blow = None
        time.sleep(_LOOK_S)


class Watch:
    """Notices that nothing gets on: no row computed, no file written, nobody hit."""

    def __init__(self, world: World, limit_s: float) -> None:
        self._world = world
        self._limit_s = limit_s
        self._seen: object = None
        self._since_s = self._next_s = time.monotonic()

    def stuck(self, also: object) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + 2.0
        try:
            num_files = sum(1 for _ in self._world.job.output.list())
        except NevaError:
            num_files = -1
        seen = (num_computed(self._world), num_files, also)
        if seen != self._seen:
            self._seen, self._since_s = seen, now_s
        return now_s - self._since_s > self._limit_s


def num_computed(world: World) -> int:
    """Rows the stub has answered so far, again and again included."""
    try:
        return (world.job.folder / "computed").read_bytes().count(b"\n")
    except FileNotFoundError:
        return _num_parts(world, int(time.monotonic()))


@lru_cache(maxsize=1)
def _num_parts(world: World, second: int) -> int:
    """The real model counts nothing: parts, mostly of one row, looked at once a second."""
    with contextlib.suppress(NevaError):
        return sum("/part-" in item.key for item in world.job.output.list("shards/"))
    return 0


def _num_recomputed(world: World) -> int:
    """Answers that the stub gave more than once."""
    try:
        given = (world.job.folder / "computed").read_bytes().splitlines()
    except FileNotFoundError:
        return 0
    return len(given) - len(set(given))


def judge(world: World, expected: Answers | None, verdict: Verdict) -> None:
    job = world.job
    answers = read_answers(job)
    verdict.num_rows = len(answers.ids)
    verdict.num_recomputed = _num_recomputed(world)
    if expected is not None:
        verdict.lost, verdict.doubled, verdict.different = differences(answers, expected)
    names = ("outputs.jsonl", "errors.jsonl", "_SUCCESS")
    before = {name: job.output.get(name) for name in names}
    code = world.restart_finished()
    if code != 0:
        verdict.problems.append(f"the second run ended with {code}")
    if before != {name: job.output.get(name) for name in names}:
        verdict.problems.append("the second run changed what was finished")
    world.close()
    deadline_s = time.monotonic() + _GONE_S
    while (left := left_behind(job)) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    verdict.problems += [f"left behind: {line}" for line in left]
    verdict.problems += late_writes(world)


def late_writes(world: World, allowed_s: float = 2.0) -> list[str]:
    """Parts and commits written by an attempt well after the next one had claimed the shard."""
    out = world.job.folder / "out"
    if world.job.bucket is not None or not out.exists():
        return []
    found = []
    for shard in (out / "shards").iterdir():
        claims = {
            int(p.parent.name): p.stat().st_mtime for p in shard.glob("attempts/*/claim.json")
        }
        for part in shard.glob("attempts/*/part-*"):
            number = int(part.parent.name)
            later = [s for other, s in claims.items() if other > number]
            if later and part.stat().st_mtime > min(later) + allowed_s:
                late_s = part.stat().st_mtime - min(later)
                found.append(f"{part.relative_to(out)} was written {late_s:.1f} s too late")
    return found


def _tell_everything(world: World) -> None:
    """To stderr: the ledger, the processes, their stacks, the ends of all logs."""
    job = world.job
    print(f"==== stuck: {job.folder}", file=sys.stderr)
    for process in everybody(world):
        print(f"  {process.pid} < {process.parent} {process.command[:150]}", file=sys.stderr)
    with contextlib.suppress(NevaError):
        for item in job.output.list():
            if "/part-" not in item.key and not item.key.startswith("frames/"):
                print(f"  {item.key} {item.size_bytes}", file=sys.stderr)
    # PYTHONFAULTHANDLER writes all threads' stacks into the logs.
    for process in everybody(world):
        if "python" in process.command:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGABRT)
    time.sleep(1.0)
    for path in [*job.folder.glob("*.log"), *job.folder.glob("cache/runs/*/*.log")]:
        tail = path.read_text(errors="replace").splitlines()[-60:]
        print(f"---- {path}", *tail, sep="\n", file=sys.stderr)


def keep_for_reading(folder: Path, name: str, to: Path) -> Path:
    """Move a failed run's folder away, so that somebody can read it."""
    to.mkdir(parents=True, exist_ok=True)
    target = to / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(folder, target)
    return target
