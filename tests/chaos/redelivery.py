"""How long a shard waits for its next worker when the one that has it is killed whole.

From the SIGKILL of the supervisor, with everything below it, to the next attempt's claim.json by
somebody else: its time on disk.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import orjson
import redis

from neva.lease import Leases
from neva.ledger import Ledger
from tests.chaos.blows import Stopped
from tests.chaos.jobs import Answers
from tests.chaos.run import Verdict, Watch, judge, num_computed
from tests.chaos.world import ClusterWorld, kill_marked
from tests.support.processes import descendants

_LEASE_TTL_S = 2.0


@dataclass(frozen=True, slots=True)
class Held:
    """A shard that a worker held when it was killed."""

    shard: int
    attempt: int
    killed_s: float  # time.time


def measure(
    world: ClusterWorld, expected: Answers | None, rng: random.Random, num_kills: int = 6
) -> tuple[list[float], Verdict]:
    """Kill workers in turn while a long queue waits; seconds until each shard was taken again."""
    verdict = Verdict()
    held: list[Held] = []
    watch = Watch(world, 90.0)
    try:
        next_kill_s = time.monotonic() + 4.0
        while not world.keep():
            if watch.stuck(also=len(held)):
                verdict.stuck = True
                return [], verdict
            if (
                num_computed(world) > 4
                and verdict.num_kills < num_kills
                and time.monotonic() >= next_kill_s
            ):
                number = rng.randrange(world.num_workers)
                found = _kill_whole(world, number)
                if found:
                    held += found
                    verdict.hits["worker: SIGKILL"] += 1
                    world.hold_back(number, 1.0)
                    next_kill_s = time.monotonic() + rng.uniform(3.0, 5.0)
            time.sleep(0.03)
        judge(world, expected, verdict)
        seconds = [s for one in held if (s := _taken_after_s(world, one)) is not None]
    finally:
        Stopped().continue_due(everybody=True)
        world.close()
        kill_marked(world.job)
    return seconds, verdict


def p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def _kill_whole(world: ClusterWorld, number: int) -> list[Held]:
    """SIGKILL one worker that holds leases; what it held."""
    process = world.worker(number)
    if process is None or process.poll() is not None:
        return []
    configs = list((world.job.folder / "s" / f"worker-{number}").glob("neva-worker-*/worker.json"))
    manifest = Ledger(world.job.output).read_manifest()
    if not configs or manifest is None:
        return []
    try:
        worker_id = orjson.loads(max(configs, key=_age).read_bytes())["worker_id"]
    except FileNotFoundError:  # an earlier one's, that is being removed
        return []
    client = redis.Redis.from_url(world.redis_url() or "")
    leases = Leases(client, manifest.run_id, _LEASE_TTL_S)
    numbers = range(len(manifest.shards))
    below = descendants(process.pid)
    owners = {
        (shard, lease.attempt): _claimed_by(world, shard, lease.attempt)
        for shard, lease in leases.get_many(numbers).items()
    }
    held = [claim for claim, owner in owners.items() if owner == worker_id]
    if not held or len(held) == len(owners):
        return []  # somebody else must be there to take over
    killed_s = time.time()
    process.send_signal(signal.SIGKILL)
    for other in below:
        try:
            os.kill(other.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    client.close()
    return [Held(shard, attempt, killed_s) for shard, attempt in held]


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _claim(world: ClusterWorld, shard: int, attempt: int) -> Path:
    return world.job.folder / f"out/shards/{shard:05d}/attempts/{attempt}/claim.json"


def _claimed_by(world: ClusterWorld, shard: int, attempt: int) -> str | None:
    try:
        return str(orjson.loads(_claim(world, shard, attempt).read_bytes())["worker"])
    except FileNotFoundError:
        return None


def _taken_after_s(world: ClusterWorld, held: Held) -> float | None:
    """None: it had been committed before it was killed."""
    try:
        return _claim(world, held.shard, held.attempt + 1).stat().st_mtime - held.killed_s
    except FileNotFoundError:
        return None
