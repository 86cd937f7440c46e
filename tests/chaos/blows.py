"""What is done to a run: drawn from a seeded generator, then struck."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from dataclasses import dataclass, field

from tests.chaos.roles import Role
from tests.chaos.world import World, flush

KILL, STOP, TERM = "SIGKILL", "SIGSTOP", "SIGTERM"
_FLUSHES = ("FLUSHALL", "FLUSHDB", "DEL")
# How often each is struck, and with what.
_ROLE_WEIGHTS = {
    Role.CHILD: 8,
    Role.CONSUMER: 3,
    Role.RANK: 5,
    Role.SUPERVISOR: 3,
    Role.CONTROLLER: 3,
    Role.BROKER: 5,
}
_SIGNAL_WEIGHTS = {KILL: 6, STOP: 3, TERM: 2}
_BROKER_WEIGHTS = {KILL: 3, STOP: 2, "FLUSHALL": 2, "FLUSHDB": 1, "DEL": 2}


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that happens to one process.

    Attributes:
        what: a signal's name, or a broker's command.
        which: picks among the processes in the role, modulo their number.
        after_rows: struck when so many more rows are computed, so that a slow machine is hit in
            the middle of its work, too; or, as there may be nobody to compute any,
        after_s: when so much time has gone.
        stopped_s: how long a stopped process stays so.
        again: the same once more, to another process in the role, at once.
    """

    role: Role
    what: str
    which: int
    after_rows: int
    after_s: float
    stopped_s: float
    again: bool


def draw(rng: random.Random, lease_ttl_s: float, patience_s: float, max_rows: int = 8) -> Blow:
    """The next blow. Always takes the same numbers from `rng`, so that a seed repeats a run.

    patience_s: how long most blows wait for rows, `max_rows` at most; every sixth may hit at any
        time, before all work and while somebody starts, too.
    """
    role = rng.choices(list(_ROLE_WEIGHTS), weights=list(_ROLE_WEIGHTS.values()))[0]
    weights = _BROKER_WEIGHTS if role is Role.BROKER else _SIGNAL_WEIGHTS
    what = rng.choices(list(weights), weights=list(weights.values()))[0]
    return Blow(
        role=role,
        what=what,
        which=rng.randrange(1000),
        after_rows=rng.randint(1, max_rows),
        after_s=rng.choice((rng.uniform(0.0, 1.5), *[patience_s] * 5)),
        # Half of them beyond the lease.
        stopped_s=rng.choice((rng.uniform(0.1, 1), rng.uniform(1, 2.5) * lease_ttl_s)),
        again=rng.random() < 0.5,
    )


@dataclass
class Stopped:
    """Processes that wait to be continued."""

    until_s: dict[int, float] = field(default_factory=dict)

    def stop(self, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        self.until_s[pid] = time.monotonic() + seconds

    def continue_due(self, *, everybody: bool = False) -> None:
        now_s = time.monotonic()
        for pid, until_s in list(self.until_s.items()):
            if everybody or now_s >= until_s:
                del self.until_s[pid]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def strike(world: World, blow: Blow, stopped: Stopped) -> int:
    """Do it; how many processes were hit (0: nobody is in the role now)."""
    if blow.role is Role.BROKER and blow.what in _FLUSHES:
        return int(flush(world, blow.what))
    victims = world.members(blow.role)
    num_hit = 0
    for turn in range(2 if blow.again else 1):
        if not victims:
            break
        victim = victims.pop((blow.which + turn) % len(victims))
        with contextlib.suppress(ProcessLookupError):
            if blow.what == STOP:
                stopped.stop(victim.pid, blow.stopped_s)
            else:
                os.kill(victim.pid, getattr(signal, blow.what))
            num_hit += 1
    return num_hit
