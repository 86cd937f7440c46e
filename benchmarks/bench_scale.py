"""What a large run costs besides its answers: `python -m benchmarks.bench_scale`.

NEVA_BENCH_ROWS rows (a million by default) about a tenth as many media are validated and split, and
their shards, committed by a cheap writer, merged; each in a process of its own, whose peak of
memory is watched. floor_s is one orjson pass over the same lines in the same run. What queue and
ledger cost a shard, and how long a real worker's engine has no row, is measured on S3's protocol
and Valkey; docs/scale.md says what the two numbers mean. The last line has the numbers.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.peak_memory import run_phase
from benchmarks.scale_run import answer_all, make_job, write_input
from controller.merge import merge
from controller.start import Refused, start_run
from neva.ledger import Ledger
from neva.store import open_store

ROWS_VARIABLE = "NEVA_BENCH_ROWS"
_MODULE = "benchmarks.bench_scale"


def split_phase(folder: Path) -> dict[str, Any]:
    """The floor, then the whole split: validation, media, shards and manifest."""
    start_s = time.perf_counter()
    with (folder / "prompts.jsonl").open("rb") as file:
        for line in file:
            orjson.loads(line)
    floor_s = time.perf_counter() - start_s
    start_s = time.perf_counter()
    started = start_run(make_job(folder, str(folder / "out")), _ledger(folder), lambda *_: None)
    split_s = time.perf_counter() - start_s
    if isinstance(started, Refused):
        raise SystemExit(f"{started.num_rejected} rows were refused")
    return {"split_s": split_s, "floor_s": floor_s, "shards": len(started.shards)}


def answer_phase(folder: Path) -> dict[str, Any]:
    """Not measured."""
    ledger = _ledger(folder)
    manifest = ledger.read_manifest()
    assert manifest is not None
    answer_all(ledger, manifest)
    return {}


def merge_phase(folder: Path) -> dict[str, Any]:
    """The merge alone."""
    ledger = _ledger(folder)
    start_s = time.perf_counter()
    manifest = ledger.read_manifest()
    assert manifest is not None
    merged = merge(ledger, manifest)
    return {"merge_s": time.perf_counter() - start_s, "answered": merged.num_answered}


def overhead_phase(folder: Path) -> dict[str, Any]:
    from benchmarks.shard_overhead import engine_s, ledger_s  # torch is for this phase only

    took_s, cpu_s = ledger_s()
    return {"ledger_s": took_s, "cpu_s": cpu_s, "engine_s": engine_s()}


def idle_phase(folder: Path) -> dict[str, Any]:
    from benchmarks.worker_idle import idle_s

    seconds, busy_s = idle_s()
    return {"idle_s": seconds, "busy_s": busy_s}


PHASES = {
    "split": split_phase,
    "answer": answer_phase,
    "merge": merge_phase,
    "overhead": overhead_phase,
    "idle": idle_phase,
}


def _ledger(folder: Path) -> Ledger:
    return Ledger(open_store(str(folder / "out")))


def measure(folder: Path, num_rows: int) -> dict[str, Any]:
    """Split and merge `num_rows` rows in an empty folder."""
    write_input(folder, num_rows)
    split, split_mib = run_phase(_MODULE, ["split", str(folder)])
    run_phase(_MODULE, ["answer", str(folder)])
    merged, merge_mib = run_phase(_MODULE, ["merge", str(folder)])
    return {"split_rss_mib": split_mib, "merge_rss_mib": merge_mib, **split, **merged}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("phase", nargs="?", choices=PHASES)
    parser.add_argument("folder", nargs="?", type=Path)
    arguments = parser.parse_args()
    if arguments.phase:
        print(orjson.dumps(PHASES[arguments.phase](arguments.folder)).decode())
        return
    num_rows = int(os.environ.get(ROWS_VARIABLE, "1000000"))
    with tempfile.TemporaryDirectory(prefix="nv-scale-") as folder:
        found = measure(Path(folder), num_rows)
        print(
            f"{found['shards']} shards, split in {found['split_s'] / found['floor_s']:.1f} floors"
        )
        shard, _ = run_phase(_MODULE, ["overhead", folder])
        print(
            f"a shard: {shard['ledger_s'] * 1000:.0f} ms of queue and ledger, of which "
            f"{shard['cpu_s'] * 1000:.0f} ms compute; {shard['engine_s'] * 1000:.0f} ms of engine"
        )
        worker, _ = run_phase(_MODULE, ["idle", folder])
        print(
            f"a worker's engine: {worker['idle_s'] * 1000:.0f} ms a shard without a row, beside "
            f"{worker['busy_s'] * 1000:.0f} ms of computing"
        )
        print(
            f"bench-scale: rows={num_rows} split_s={found['split_s']:.2f} "
            f"floor_s={found['floor_s']:.2f} split_rss_mib={found['split_rss_mib']} "
            f"merge_s={found['merge_s']:.2f} merge_rss_mib={found['merge_rss_mib']} "
            f"overhead_per_shard={shard['ledger_s'] / shard['engine_s']:.3f} "
            f"idle_per_shard={worker['idle_s'] / worker['busy_s']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
