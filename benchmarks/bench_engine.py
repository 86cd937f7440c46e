"""The engine against transformers: `python -m benchmarks.bench_engine`.

One process, one thread, the same fp32 weights, greedy answers compared row by row. `sequential` is
transformers one prompt at a time, each video encoded again for each question, as the original
script does it; `hf_batched` is transformers' `generate` at the best of a few batch sizes. A number
like demo_left is sequential's time divided by ours. floor_share is the time of the necessary matrix
multiplications (`benchmarks.floor`) divided by ours, the smaller one of left and right.
Seconds are medians; a machine shared with others shifts them, the quotients less.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import torch

from benchmarks.contenders import Answers, OurEngine, Timed, Transformers, timed
from benchmarks.floor import floor_s
from benchmarks.workloads import (
    DEMO_MODEL_DIR,
    MID,
    Workload,
    demo_workload,
    random_workload,
    write_random_model,
)
from neva.templates import InsertMedia
from worker.engine import distributed
from worker.engine.distributed import Ranks

_SIDES: Final[tuple[InsertMedia, ...]] = ("left", "right")
_DEMO_BATCH_SIZES: Final = (8, 16, 32)
_MID_BATCH_SIZES: Final = (2, 6)
_MID_OWN_ROUNDS: Final = 3
_QUESTIONS_OF_PREFILL_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """One workload; seconds are medians over the rounds."""

    sequential_s: float
    hf_batched_s: float
    ours_s: float

    @property
    def speedup(self) -> float:
        return self.sequential_s / self.ours_s

    @property
    def versus_hf(self) -> float:
        return self.hf_batched_s / self.ours_s


def compare(
    workload: Workload,
    transformers: Transformers,
    ours: OurEngine,
    batch_sizes: tuple[int, ...],
    num_rounds: int,
    num_own_rounds: int,
) -> Comparison:
    """Time all three, in turns, ours more often if asked to.

    The first time our engine also gets its cache's memory from the system, which it keeps.

    Raises:
        RuntimeError: somebody's answers differ from those of `sequential`.
    """
    rounds: dict[str, list[float]] = {}
    expected: Answers = {}

    def run(name: str, answer: Callable[[], Answers]) -> None:
        result: Timed = timed(answer)
        rounds.setdefault(name, []).append(result.seconds)
        expected.update(expected or result.answers)
        wrong = [key for key in expected if result.answers[key] != expected[key]]
        if wrong:
            raise RuntimeError(f"{workload.name}: {name} answers rows {wrong} differently")

    for _ in range(num_rounds):
        run("sequential", lambda: transformers.answer(workload, 1))
        for size in batch_sizes:
            run(f"hf_batched {size}", lambda size=size: transformers.answer(workload, size))  # type: ignore[misc]
        for _ in range(num_own_rounds):
            run("ours", lambda: ours.answer(workload))
    medians = {name: median(seconds) for name, seconds in rounds.items()}
    num_tokens = sum(len(tokens) for tokens in expected.values())
    print(
        f"{workload.name}: {len(expected)} rows about {workload.num_videos} videos, {num_tokens}"
        f" tokens, all answers equal; median CPU seconds: "
        + ", ".join(f"{name} {seconds:.2f}" for name, seconds in medians.items()),
        flush=True,
    )
    return Comparison(
        sequential_s=medians["sequential"],
        # The best batch size may be 1.
        hf_batched_s=min(seconds for name, seconds in medians.items() if name != "ours"),
        ours_s=medians["ours"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo-videos", type=int, default=24)
    parser.add_argument("--demo-rounds", type=int, default=3)
    parser.add_argument("--mid-videos", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="neva-bench-") as folder:
        directory = Path(folder)
        ranks = distributed.join(0, 1, torch.device("cpu"), directory / "rendezvous")
        demo = _run_demo(directory, ranks, arguments.demo_videos, arguments.demo_rounds)
        mid, figures = _run_mid(directory, ranks, arguments.mid_videos)
    print(
        "bench-engine:"
        f" demo_left={demo['left'].speedup:.2f} demo_right={demo['right'].speedup:.2f}"
        f" mid_left={mid['left'].speedup:.2f} mid_right={mid['right'].speedup:.2f}"
        f" demo_left_vs_hf={demo['left'].versus_hf:.2f}"
        f" mid_left_vs_hf={mid['left'].versus_hf:.2f}"
        f" mid_right_vs_hf={mid['right'].versus_hf:.2f}"
        f" floor_share_mid={figures.floor_share:.2f}"
        f" prefill_share_k4={figures.prefill_share:.3f}"
        f" vision_passes_per_video={figures.vision_passes_per_video:.2f}"
    )


def _run_demo(
    directory: Path, ranks: Ranks, num_videos: int, num_rounds: int
) -> dict[InsertMedia, Comparison]:
    transformers, ours = Transformers(DEMO_MODEL_DIR), OurEngine(DEMO_MODEL_DIR, ranks)
    comparisons: dict[InsertMedia, Comparison] = {}
    for side in _SIDES:
        workload = demo_workload(side, num_videos, directory)
        comparisons[side] = compare(workload, transformers, ours, _DEMO_BATCH_SIZES, num_rounds, 1)
    return comparisons


@dataclass(frozen=True, slots=True)
class MidFigures:
    floor_share: float
    prefill_share: float
    vision_passes_per_video: float


def _run_mid(
    directory: Path, ranks: Ranks, num_videos: int
) -> tuple[dict[InsertMedia, Comparison], MidFigures]:
    model_dir = directory / "mid-model"
    write_random_model(MID, model_dir)
    transformers, ours = Transformers(model_dir), OurEngine(model_dir, ranks)
    comparisons: dict[InsertMedia, Comparison] = {}
    floor_shares = []
    passes_before = ours.engine.inputs.vision.num_passes
    for side in _SIDES:
        workload = random_workload(MID, side, num_videos, model_dir, directory)
        comparisons[side] = compare(
            workload, transformers, ours, _MID_BATCH_SIZES, 1, _MID_OWN_ROUNDS
        )
        floor = floor_s(ours.engine, workload)
        floor_shares.append(floor / comparisons[side].ours_s)
        print(f"{workload.name}: necessary matrix multiplications {floor:.2f} CPU seconds")
    num_passes = ours.engine.inputs.vision.num_passes - passes_before
    num_videos_asked = num_videos * len(_SIDES) * _MID_OWN_ROUNDS
    workload = random_workload(
        MID,
        "left",
        1,
        model_dir,
        directory,
        num_questions=_QUESTIONS_OF_PREFILL_SHARE,
        num_new_tokens=1,
    )
    prefilled_before = ours.engine.num_prefilled_tokens
    ours.answer(workload)
    num_prefilled = ours.engine.num_prefilled_tokens - prefilled_before
    num_prompt_tokens = sum(row.num_prompt_tokens for row in workload.requests)
    figures = MidFigures(
        floor_share=min(floor_shares),
        prefill_share=num_prefilled / num_prompt_tokens,
        vision_passes_per_video=num_passes / num_videos_asked,
    )
    return comparisons, figures


if __name__ == "__main__":
    main()
