"""From one worker to a thousand, simulated: `make simulate`.

Prints the tables of docs/scale.md and, with --write, puts them and the chart there. The costs that
it calculates with are those that `make simulate-costs` measured. Seeded: the same costs give the
same tables.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from benchmarks.simulation.chart import line_chart
from benchmarks.simulation.model import Outcome, Simulation
from benchmarks.simulation.world import COSTS_FILE, Costs, Job, Place, Trouble

DOCS: Final = Path(__file__).parent.parent / "docs"
WORKERS: Final = (1, 10, 30, 100, 300, 1000)
ROWS_PER_WORKER: Final = 10_000
SHARD_SIZES: Final = (64, 256, 1024)
SEED: Final = 7
PLACE: Final = Place()
NO_TROUBLE: Final = Trouble()
SPOT: Final = Trouble(deaths_per_hour=0.5, counted_share=0.0, spread=0.2)

Table = list[list[str]]


def simulate(
    job: Job,
    place: Place = PLACE,
    trouble: Trouble = NO_TROUBLE,
    costs: Costs | None = None,
) -> Outcome:
    return Simulation(job, place, trouble, costs or Costs.load(), SEED).run()


def job_of(workers: int, max_rows: int = 256, **other: float) -> Job:
    """So many rows that each worker has as much to do, however many there are."""
    return replace(Job(ROWS_PER_WORKER * workers, workers, max_rows), **other)  # type: ignore[arg-type]


def sizes_table(workers: Iterable[int] = WORKERS) -> Table:
    rows = [["workers", *(f"{size:,} rows" for size in SHARD_SIZES)]]
    rows[0] += ["of a prefix's GET", "of its PUT", "of Redis' core", "connections"]
    for number in workers:
        found = [simulate(job_of(number, size)) for size in SHARD_SIZES]
        middle = found[1]
        rows.append(
            [
                f"{number:,}",
                *(f"{one.efficiency:.0%}" for one in found),
                f"{middle.reads_share:.1%}",
                f"{middle.writes_share:.1%}",
                f"{middle.redis_share:.0%}",
                f"{middle.redis_connections:,}",
            ]
        )
    return rows


def trouble_table(workers: int = 300) -> Table:
    job = job_of(workers)
    patient = replace(SPOT, counted_share=0.1, backoff_limit=10_000)
    cases = {
        "nothing goes wrong": (job, Trouble()),
        "shards differ (sigma 0.5)": (job, Trouble(spread=0.5)),
        "0.5 deaths an hour and worker, all evictions": (job, SPOT),
        "the same, one in ten a crash, `backoffLimit: 6`": (
            job,
            replace(SPOT, counted_share=0.1, backoff_limit=6),
        ),
        "the same, `backoffLimit: 10000`": (job, patient),
        "evictions, a lease of 60 s": (replace(job, lease_ttl_s=60.0), SPOT),
        "evictions, shards of 2,048 rows": (replace(job, max_rows=2048), SPOT),
        "evictions, 10 minutes to start": (replace(job, start_s=600.0), SPOT),
    }
    rows = [["", "efficiency", "idle", "deaths", "rounds", "rows twice"]]
    for words, (what, trouble) in cases.items():
        found = simulate(what, trouble=trouble)
        rows.append(
            [
                words,
                f"{found.efficiency:.0%}",
                f"{found.idle_share:.0%}",
                f"{found.num_deaths:,}",
                f"{found.num_rounds}",
                f"{found.computed_twice / what.num_rows:.2%}",
            ]
        )
    return rows


def store_table(workers: int = 1000) -> Table:
    tenth = Place(reads_per_s=550, writes_per_s=350)
    cases: dict[str, tuple[Place, float]] = {
        "30 ms to read, 60 to write": (PLACE, 2.0),
        "the same, `NEVA_FLUSH_INTERVAL_S=30`": (PLACE, 30.0),
        "100 and 200 ms": (Place(read_s=0.1, write_s=0.2), 2.0),
        "a tenth of the limits": (tenth, 2.0),
        "a tenth, in 8 prefixes": (replace(tenth, prefixes=8), 2.0),
    }
    rows = [["store", "64 rows", "256 rows", "1,024 rows", "merge of 256"]]
    for words, (place, flush_s) in cases.items():
        jobs = [job_of(workers, size, flush_interval_s=flush_s) for size in SHARD_SIZES]
        found = [simulate(job, place) for job in jobs]
        shares = [f"{one.efficiency:.0%}" for one in found]
        rows.append([words, *shares, f"{found[1].merge_s / 60:.0f} min"])
    return rows


def check_table() -> Table:
    rows = [["workers", "shards", "rows a shard", "measured", "predicted"]]
    for check in orjson.loads(COSTS_FILE.read_bytes())["checks"]:
        off = check["predicted_s"] / check["measured_s"] - 1
        rows.append(
            [
                *(str(check[name]) for name in ("workers", "shards", "rows")),
                f"{check['measured_s']:.1f} s",
                f"{check['predicted_s']:.1f} s ({off:+.0%})",
            ]
        )
    return rows


def costs_table() -> Table:
    costs = Costs.load()
    reads, writes = costs.begin_reads + costs.end_reads, costs.begin_writes + costs.end_writes
    return [
        ["what", "costs"],
        ["a shard, in a worker", f"{reads:.0f} reads and {writes:.0f} writes of the store"],
        ["", "one write more for each part: every 64 rows or 2 s"],
        ["", f"{1000 * costs.shard_cpu_s:.0f} ms of computing, media and rows apart"],
        ["", f"{costs.redis_ops:.0f} commands of Redis"],
        ["a worker, each second", f"{costs.watch_reads_per_s:.1f} reads of the store"],
        ["", f"{costs.redis_ops_per_s:.0f} commands of Redis"],
        ["a worker", f"{costs.redis_connections:.0f} connections to Redis"],
        ["a command of Redis", f"{1e6 * costs.redis_op_s:.0f} µs of its one core"],
        ["a shard, in the controller", f"{costs.controller_reads:.1f} reads, eight at a time"],
        ["", f"{1000 * costs.send_s:.1f} ms to send its message"],
    ]


def markdown(table: Table) -> str:
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tables() -> Iterator[tuple[str, Table]]:
    yield "costs", costs_table()
    yield "check", check_table()
    yield "sizes", sizes_table()
    yield "trouble", trouble_table()
    yield "store", store_table()


def chart() -> str:
    lines = {
        f"shards of {size:,} rows": [(n, simulate(job_of(n, size)).efficiency) for n in WORKERS]
        for size in SHARD_SIZES
    }
    lines["1,024, evictions"] = [
        (n, simulate(job_of(n, 1024), trouble=SPOT).efficiency) for n in WORKERS
    ]
    title = "Share of the workers' time that goes into rows (simulated)"
    return line_chart(title, "workers", "efficiency", lines)


def with_table(page: str, name: str, table: Table) -> str:
    """`page` with the table between its marks."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"{begin}.*?{end}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"the page has no {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{markdown(table)}\n{end}", page)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put all into docs/scale.md")
    given = parser.parse_args(arguments)
    page = (DOCS / "scale.md").read_text(encoding="utf-8") if given.write else ""
    for name, table in tables():
        print(f"{markdown(table)}\n", flush=True)
        if given.write:
            page = with_table(page, name, table)
    if given.write:
        (DOCS / "scale.md").write_text(page, encoding="utf-8")
        (DOCS / "scale.svg").write_text(chart(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
