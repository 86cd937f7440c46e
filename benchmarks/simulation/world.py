"""What a simulated run is made of: measured costs, a place's limits, a job, and what goes wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import orjson

COSTS_FILE: Final = Path(__file__).with_name("costs.json")


@dataclass(frozen=True, slots=True)
class Costs:
    """Counted and timed on real small runs by `benchmarks.simulation.measure`.

    Requests of one shard's first attempt, one after the other, those of media and parts apart:

    Attributes:
        begin_reads, begin_writes: before its first row is asked.
        end_reads, end_writes: after its last row, parts not counted.
        shard_cpu_s: computing of the worker's process for all of them.
        watch_reads_per_s: of each worker, whatever it does: orders, and who is done.
        controller_reads: the controller's for each shard that gets done.
        send_s: the controller's time for one message.
        redis_ops_per_s, redis_ops: commands of each worker a second, and of each shard.
        redis_op_s: the server's computing for one of them.
        redis_connections: that each worker keeps open.
    """

    begin_reads: float
    begin_writes: float
    end_reads: float
    end_writes: float
    shard_cpu_s: float
    watch_reads_per_s: float
    controller_reads: float
    send_s: float
    redis_ops_per_s: float
    redis_ops: float
    redis_op_s: float
    redis_connections: float

    @classmethod
    def load(cls, path: Path = COSTS_FILE) -> Self:
        found = orjson.loads(path.read_bytes())
        return cls(**{field.name: found[field.name] for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Place:
    """The store, the broker and the controller's pace.

    Attributes:
        read_s, write_s: of one small request, at leisure.
        reads_per_s, writes_per_s: what one prefix bears; 3,500 PUT and 5,500 GET and HEAD are AWS's
            for each, before S3 splits a prefix that stays busy.
        prefixes: that the store has split the run's prefix into.
        redis_connections: `maxclients`.
        look_s: the controller's pause between two looks (`stepIntervalSeconds`).
    """

    read_s: float = 0.03
    write_s: float = 0.06
    reads_per_s: float = 5500.0
    writes_per_s: float = 3500.0
    prefixes: int = 1
    redis_connections: int = 10_000
    look_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked of how many workers.

    Attributes:
        rows_per_s: of one worker, all its shards in flight together.
        start_s: from a pod's creation to its first shard: image, checkpoint, engine.
        shards_in_flight, flush_rows, flush_interval_s, lease_ttl_s: the settings of these names.
    """

    num_rows: int
    workers: int
    max_rows: int = 64
    rows_per_s: float = 4.0
    start_s: float = 120.0
    shards_in_flight: int = 2
    flush_rows: int = 64
    flush_interval_s: float = 2.0
    lease_ttl_s: float = 6.0

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.max_rows)

    @property
    def rows_per_part(self) -> float:
        """A part is written when it is full, or when its first row has waited long enough."""
        slot_rows_per_s = self.rows_per_s / self.shards_in_flight
        return min(self.flush_rows, max(1.0, self.flush_interval_s * slot_rows_per_s))

    @property
    def parts_per_shard(self) -> float:
        return max(1.0, self.max_rows / self.rows_per_part)

    @property
    def ideal_s(self) -> float:
        """If workers were there at once, nothing ever died and nothing but rows took time."""
        return self.num_rows / (self.workers * self.rows_per_s)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong.

    Attributes:
        deaths_per_hour: of each worker, by an exponential law.
        counted_share: of the deaths, those that the worker Job's backoffLimit counts: crashes, not
            evictions and lost nodes.
        backoff_limit: `workers.backoffLimit`.
        spread: sigma of the lognormal by which a shard's rows are slower or faster than the mean.
    """

    deaths_per_hour: float = 0.0
    counted_share: float = 0.1
    backoff_limit: int = 6
    spread: float = 0.0
