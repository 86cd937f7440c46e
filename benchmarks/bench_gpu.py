"""The engine on one GPU against transformers: `python -m benchmarks.bench_gpu`.

First a random model of 103 million parameters in fp32: every greedy answer must be equal. Then one
of LLaVA-1.5-7B's sizes in bf16: rows a second of transformers one by one, of its best batch, and of
ours; the share of rows whose first token is the same; prefilled tokens a second as a share of what
the card's matrix product makes possible, and the share of a decoding step that reading weights,
keys and values at the card's copy speed would take. Seconds are the clock's, medians of a few
rounds.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from benchmarks.contenders import Answers, OurEngine, Transformers, timed
from benchmarks.workloads import (
    LARGE,
    MID,
    NUM_QUESTIONS,
    Workload,
    random_workload,
    write_random_model,
)
from neva.templates import InsertMedia
from worker.engine import distributed
from worker.engine.device import choose_device
from worker.engine.distributed import Ranks

_SIDES: Final[tuple[InsertMedia, ...]] = ("left", "right")
_MATRIX: Final = 8192
_ROUNDS: Final = 3
_ROWS_ALONE: Final = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="for 14 GB of model; memory is fastest")
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 24])
    parser.add_argument("--profile", action="store_true", help="the kernels of decoding")
    arguments = parser.parse_args()
    device = choose_device("cuda", 0, 1)
    with tempfile.TemporaryDirectory(prefix="neva-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        ranks = distributed.join(0, 1, device, folder / "rendezvous")
        print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}", flush=True)
        _require_equal_answers(folder, ranks)
        print(_large(folder, ranks, arguments), flush=True)
        distributed.leave()  # else NCCL may keep the process


def _require_equal_answers(folder: Path, ranks: Ranks) -> None:
    model_dir = folder / "mid"
    write_random_model(MID, model_dir)
    theirs = Transformers(model_dir, device=ranks.device)
    ours = OurEngine(model_dir, ranks)
    for side in _SIDES:
        workload = random_workload(MID, side, 4, model_dir, folder)
        expected, found = theirs.answer(workload, 1), ours.answer(workload)
        num_equal = sum(found[key] == expected[key] for key in expected)
        print(f"{workload.name} in fp32: {num_equal} of {len(expected)} answers equal", flush=True)
        if num_equal < len(expected):
            raise SystemExit("answers differ")


def _large(folder: Path, ranks: Ranks, arguments: argparse.Namespace) -> str:
    device, model_dir = ranks.device, folder / "large"
    write_random_model(LARGE, model_dir, torch.bfloat16, device)
    _free()
    workload = random_workload(LARGE, "left", arguments.videos, model_dir, folder)
    num_rows = len(workload.requests)
    rates, alone, batched = _theirs(workload, arguments.batches, device)
    print(_gib("transformers"), flush=True)
    _free()

    start_s = time.perf_counter()
    ours = OurEngine(model_dir, ranks, "bf16")
    print(f"loading {time.perf_counter() - start_s:.1f} s", flush=True)
    answers = ours.answer(workload)  # warm; the cache grows here
    whole_s = _median_s(lambda: ours.answer(workload), device)
    rates["ours"] = num_rows / whole_s
    right = random_workload(LARGE, "right", arguments.videos, model_dir, folder)
    ours.answer(right)
    rates["ours, question first"] = num_rows / _median_s(lambda: ours.answer(right), device)
    print(_gib("ours"), flush=True)
    for name, rate in rates.items():
        print(f"  {name}: {rate:.2f} rows/s", flush=True)
    print(
        f"  first tokens as one by one: ours {_same(answers, alone, 1):.2f}, their batches "
        f"{_same(batched, alone, 1):.2f}; whole answers: ours "
        f"{_same(answers, alone):.2f}, their batches {_same(batched, alone):.2f}"
    )

    tflops, gigabytes = _card(device)
    prefilled = ours.engine.num_prefilled_tokens
    one_token = random_workload(
        LARGE, "left", arguments.videos, model_dir, folder, num_new_tokens=1
    )
    prefill_s = _median_s(lambda: ours.answer(one_token), device, 1)
    prefilled = ours.engine.num_prefilled_tokens - prefilled
    language: Any = ours.engine.language_model._model
    num_weights = sum(p.numel() for p in language.decoder.parameters())
    prefill_share = 2 * num_weights * prefilled / prefill_s / tflops / 1e12
    num_steps = workload.requests[0].sampling.max_new_tokens - 1
    waves = -(-num_rows // ours.engine.scheduler.max_batch_rows)
    step_s = (whole_s - prefill_s) / num_steps / waves
    # A video's prompt is cached once for all its questions.
    need = sum(row.num_prompt_tokens for row in workload.requests[::NUM_QUESTIONS]) / waves
    cache_bytes = 2 * LARGE.layers * LARGE.hidden * 2 * need
    floor_s = (2 * num_weights + cache_bytes) / gigabytes / 1e9
    print(
        f"  prefill with vision {prefill_s:.2f} s, {prefilled / prefill_s:.0f} tokens/s; a step of "
        f"{num_rows // waves} rows {step_s * 1e3:.1f} ms, its bytes alone {floor_s * 1e3:.1f} ms; "
        f"the card: {tflops:.0f} TFLOP/s bf16, {gigabytes:.0f} GB/s"
    )
    if arguments.profile:
        _profile(ours, workload)
    best = max(rate for name, rate in rates.items() if name.startswith("batches"))
    return (
        f"bench-gpu: large_vs_sequential={rates['ours'] / rates['one by one']:.2f} "
        f"large_vs_hf={rates['ours'] / best:.2f} "
        f"large_right_vs_hf={rates['ours, question first'] / best:.2f} "
        f"same_first_tokens={_same(answers, alone, 1):.2f} "
        f"prefill_share={prefill_share:.2f} decode_floor_share={floor_s / step_s:.2f}"
    )


def _theirs(
    workload: Workload, batch_sizes: list[int], device: torch.device
) -> tuple[dict[str, float], Answers, Answers]:
    """Rows a second by way of asking, some answers one by one, and all of the first batch size."""
    theirs = Transformers(workload.model_dir, torch.bfloat16, device)
    few = replace(workload, requests=workload.requests[:_ROWS_ALONE])
    theirs.answer(replace(workload, requests=few.requests[:1]), 1)  # warm
    alone = timed(lambda: theirs.answer(few, 1), device)
    rates = {"one by one": _ROWS_ALONE / alone.seconds}
    first: Answers = {}
    for size in batch_sizes:
        batched = timed(lambda size=size: theirs.answer(workload, size), device)  # type: ignore[misc]
        rates[f"batches of {size}"] = len(workload.requests) / batched.seconds
        first = first or batched.answers
    return rates, alone.answers, first


def _median_s(answer: Callable[[], Answers], device: torch.device, rounds: int = _ROUNDS) -> float:
    return median(timed(answer, device).seconds for _ in range(rounds))


def _same(found: Answers, expected: Answers, num_tokens: int | None = None) -> float:
    """Share of the expected rows whose first tokens are the same."""
    same = [found[key][:num_tokens] == tokens[:num_tokens] for key, tokens in expected.items()]
    return sum(same) / len(same)


def _card(device: torch.device) -> tuple[float, float]:
    """TFLOP/s of a large bf16 product and GB/s of a copy, bytes read and written."""
    a, b = (torch.randn(_MATRIX, _MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))
    product_s = _seconds(lambda: a @ b)
    source = torch.randn(1 << 30, device=device)
    target = torch.empty_like(source)
    copy_s = _seconds(lambda: target.copy_(source))
    return 2 * _MATRIX**3 / product_s / 1e12, 2 * source.nbytes / copy_s / 1e9


def _seconds(work: Callable[[], Any], repeats: int = 10) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    start_s = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - start_s) / repeats


def _profile(ours: OurEngine, workload: Workload) -> None:
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    few = replace(workload, requests=workload.requests[:24])
    with torch.profiler.profile(activities=activities) as profile:
        start_s = time.perf_counter()
        ours.answer(few)
        took_s = time.perf_counter() - start_s
    averages = profile.key_averages()
    busy_s = sum(event.self_device_time_total for event in averages) / 1e6
    print(f"  profiled {len(few.requests)} rows: {took_s:.2f} s, kernels {busy_s:.2f} s")
    print(averages.table(sort_by="self_cuda_time_total", row_limit=18, max_name_column_width=60))
    print(averages.table(sort_by="self_cpu_time_total", row_limit=18, max_name_column_width=60))


def _gib(whose: str) -> str:
    peak = torch.cuda.max_memory_allocated() / 2**30
    torch.cuda.reset_peak_memory_stats()
    return f"{whose}: {peak:.1f} GiB of GPU memory at most"


def _free() -> None:
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
