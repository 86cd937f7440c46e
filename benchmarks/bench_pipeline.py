"""How long pipeline stages wait for one another: `python -m benchmarks.bench_pipeline`.

Real rank processes, one a stage and one thread each, answer the mid workload (3 questions a video,
media on the left), first with one new token, which is the prefill, then with more. Each notes how
much CPU time it spends between its exchanges with the others. From that follows who would wait for
whom if every rank had a core of its own and messages took no time, whatever else runs on the
machine. idle is the share of that time in which a stage has nothing to compute.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final
from unittest import mock

import torch

from benchmarks.contenders import OurEngine
from benchmarks.workloads import MID, Workload, random_workload, write_random_model
from worker.engine import distributed, vision
from worker.engine.distributed import gather_all

Trace = list[tuple[str, float]]
"""(what a rank did next, its CPU seconds before that); the last one is `end`."""

_FOR_ALL: Final = ("tell", "meet", "end")  # all ranks do these at the same places of their traces


@dataclass(frozen=True, slots=True)
class Waiting:
    total_s: float
    busy_s: tuple[float, ...]  # by stage

    def less(self, other: Waiting) -> Waiting:
        busy_s = tuple(a - b for a, b in zip(self.busy_s, other.busy_s, strict=True))
        return Waiting(self.total_s - other.total_s, busy_s)

    def __str__(self) -> str:
        idle = ", ".join(f"{1 - busy_s / self.total_s:.2f}" for busy_s in self.busy_s)
        return f"{self.total_s:.2f} s, idle {idle}"


def replay(traces: Sequence[Trace]) -> Waiting:
    """What one rank a stage waits for the others, from their traces."""
    clocks = [0.0] * len(traces)
    places = [iter(trace) for trace in traces]
    kind = ""
    while kind != "end":
        sent_s: list[float] = []
        for stage, place in enumerate(places):
            before_s, sent_s = sent_s, []
            for kind, cpu_s in place:
                clocks[stage] += cpu_s
                if kind == "receive":
                    clocks[stage] = max(clocks[stage], before_s.pop(0))
                elif kind == "send":
                    sent_s.append(clocks[stage])
                elif kind in _FOR_ALL:
                    break
        known_s = clocks[-1] if kind == "tell" else max(clocks)
        clocks = [max(clock_s, known_s) for clock_s in clocks]
    return Waiting(clocks[0], tuple(sum(cpu_s for _, cpu_s in trace) for trace in traces))


def measure(workloads: Sequence[Workload], num_stages: int, directory: Path) -> list[Waiting]:
    """One engine of `num_stages` ranks answers the workloads one after the other."""
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for rank in range(num_stages):
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, rank, num_stages, workloads, directory), daemon=True
        )
        process.start()
        theirs.close()
        connections.append(ours)
        processes.append(process)
    traces: list[list[Trace]] = [connection.recv() for connection in connections]
    for process in processes:
        process.kill()
        process.join()
    return [replay(of_ranks) for of_ranks in zip(*traces, strict=True)]


def _serve(
    connection: Connection[Any, Any],
    rank: int,
    num_stages: int,
    workloads: Sequence[Workload],
    directory: Path,
) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    ranks = distributed.join(
        rank, num_stages, torch.device("cpu"), directory / "rendezvous", num_stages
    )
    engine = OurEngine(workloads[0].model_dir, ranks)
    engine.answer(workloads[0])  # gets the cache's memory from the system
    connection.send([_trace(engine, workload) for workload in workloads])
    time.sleep(3600)  # the others may still talk to this rank; the parent ends all


def _trace(ours: OurEngine, workload: Workload) -> Trace:
    trace: Trace = []
    start_s = 0.0

    def noting(kind: str, exchange: Callable[..., Any]) -> Callable[..., Any]:
        def note(*arguments: Any) -> Any:
            nonlocal start_s
            trace.append((kind, time.process_time() - start_s))
            result = exchange(*arguments)
            start_s = time.process_time()
            return result

        return note

    pipeline = ours.engine.language_model.pipeline
    with ExitStack() as stack:
        for kind in ("receive", "send", "tell"):
            exchange = noting(kind, getattr(pipeline, kind))
            stack.enter_context(mock.patch.object(pipeline, kind, exchange))
        meet = noting("meet", gather_all)
        stack.enter_context(mock.patch.object(vision, "gather_all", meet))
        start_s = time.process_time()
        ours.answer(workload)
    trace.append(("end", time.process_time() - start_s))
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--stages", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=32)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="neva-bench-") as folder:
        directory = Path(folder)
        write_random_model(MID, directory / "model")
        workloads = [
            random_workload(
                MID, "left", arguments.videos, directory / "model", directory, num_new_tokens=count
            )
            for count in (1, arguments.new_tokens)
        ]
        prefill, whole = measure(workloads, arguments.stages, directory)
        print(f"prefill and vision: {prefill}; decode: {whole.less(prefill)}")


if __name__ == "__main__":
    main()
