"""Count and time what shards and workers cost in small real runs: `make simulate-costs`.

Writes costs.json, then has the simulation predict the runs that it was not fitted to, and prints
what it said beside what was measured. Minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median

import numpy as np
import orjson

from benchmarks.shard_overhead import ledger_s
from benchmarks.simulation.model import Simulation
from benchmarks.simulation.real_run import LOOK_S, Watched, watch_run
from benchmarks.simulation.world import COSTS_FILE, Costs, Job, Place, Trouble
from controller.local.broker import EmbeddedBroker
from neva import queue

_SLOTS = 2
_ROW_S = 0.6
_SENDS = 300
# (workers, shards, rows of a shard); the first is what the shard's own time is taken from.
_RUNS = ((1, 24, 12), (2, 48, 12), (1, 48, 3), (2, 64, 6))


def costs_of(runs: Sequence[Watched], shard_cpu_s: float, send_s: float) -> Costs:
    """What the runs' counts say of one shard and one worker's second."""
    shards = sum(run.num_shards for run in runs)
    worker_s = sum(run.num_workers * run.whole_s for run in runs)

    def per_shard(*kinds: tuple[str, str]) -> float:
        return sum(run.requests[kind] for run in runs for kind in kinds) / shards

    begin = (("GET", "input"), ("HEAD", "claim"), ("HEAD", "commit"), ("HEAD", "release"))
    looks = per_shard(("GET", "list control"))
    listed = sum(
        count
        for run in runs
        for (_, kind), count in run.controller_requests.items()
        if kind in ("commit", "claim")
    )
    per_worker_s, per_redis_shard = _redis_ops(runs)
    return Costs(
        # Each message begins with a look for orders; the rest of those looks are the watch's.
        begin_reads=per_shard(*begin) + 1,
        begin_writes=per_shard(("PUT", "claim")),
        end_reads=0.0,
        end_writes=per_shard(("PUT", "commit"), ("PUT", "timings")),
        shard_cpu_s=shard_cpu_s,
        watch_reads_per_s=max(0.0, looks - 1) * shards / worker_s,
        controller_reads=listed / shards,
        send_s=send_s,
        redis_ops_per_s=per_worker_s,
        redis_ops=per_redis_shard,
        redis_op_s=sum(r.redis_cpu_s for r in runs) / sum(r.redis_all_ops for r in runs),
        redis_connections=max(run.redis_connections / run.num_workers for run in runs),
    )


def _redis_ops(runs: Sequence[Watched]) -> tuple[float, float]:
    """Commands of a worker's second and of a shard, by least squares, neither below 0."""
    seconds = np.array([[run.num_workers * run.whole_s, run.num_shards] for run in runs])
    found = np.linalg.lstsq(seconds, np.array([run.redis_all_ops for run in runs]), rcond=None)[0]
    return max(0.0, float(found[0])), max(0.0, float(found[1]))


def sending_s() -> float:
    """Median seconds of sending one message."""
    with EmbeddedBroker() as broker, queue.make_app(broker.url, "sim") as app:
        took_s = []
        for number in range(_SENDS):
            started_s = time.perf_counter()
            queue.send(app, queue.ShardMessage("sim", number))
            took_s.append(time.perf_counter() - started_s)
    return median(took_s)


def predicted_s(run: Watched, costs: Costs) -> float:
    """What the simulation says that the timed shards of the run take."""
    place = Place(
        read_s=run.read_s,
        write_s=run.write_s,
        reads_per_s=1 / run.read_s,  # a server that does one thing at a time
        writes_per_s=1 / run.write_s,
        look_s=LOOK_S,
    )
    job = Job(
        run.timed_shards * run.max_rows,
        run.num_workers,
        run.max_rows,
        rows_per_s=_SLOTS * run.max_rows / run.row_s,
        start_s=0.0,
        shards_in_flight=_SLOTS,
    )
    return Simulation(job, place, Trouble(), costs, seed=1).run().answered_s


def fitted(run: Watched, costs: Costs) -> Costs:
    """With the computing of a shard, decoding included, that makes the run's time."""
    low, high = 0.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        too_long = predicted_s(run, replace(costs, shard_cpu_s=middle)) > run.timed_s
        low, high = (low, middle) if too_long else (middle, high)
    return replace(costs, shard_cpu_s=low)


def main() -> int:
    runs = [watch_run(workers, shards, rows, _ROW_S) for workers, shards, rows in _RUNS]
    costs = costs_of(runs, ledger_s()[1], sending_s())
    local = fitted(runs[0], costs)
    checks = [
        {
            "workers": run.num_workers,
            "shards": run.timed_shards,
            "rows": run.max_rows,
            "measured_s": round(run.timed_s, 2),
            "predicted_s": round(predicted_s(run, local), 2),
        }
        for run in runs
    ]
    found = {**asdict(costs), "checks": checks}
    COSTS_FILE.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
    for check in checks:
        print(" ".join(f"{name}={value}" for name, value in check.items()))
    print(f"costs: {COSTS_FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
