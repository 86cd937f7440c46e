"""What the tests have the rank processes do. Each takes its `Ranks` first."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Queue
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch.nn import functional

from tests.support.device import TEST_DEVICE
from worker.engine import attention, vision
from worker.engine.attention import RotaryTable, RowContext
from worker.engine.build import load_engine
from worker.engine.cache_budget import CacheNeed
from worker.engine.distributed import Ranks, gather_all
from worker.engine.engine import Engine
from worker.engine.kv_cache import KVCache
from worker.engine.launch import EngineConfig, Precision, QuantizationConfig
from worker.engine.passes import PassContext
from worker.engine.protocol import GenerateRequest, MediaRef, Outcome
from worker.engine.row_batch import RowBatch
from worker.engine.sampler import VocabParallelSampler
from worker.engine.scheduler import Row


@dataclass(frozen=True)
class Setup:
    """The engine that a test wants."""

    model_dir: Path
    max_batch_rows: int = 8
    precision: Precision = "fp32"
    vision_cache_embeddings: int = 65536
    max_prefill_tokens: int = 8192
    base_model: Path | None = None
    vision_encoder: Path | None = None
    prefill_piece_tokens: int = 512
    kv_cache_bytes: int | None = None
    quantization: QuantizationConfig | None = None


_engines: dict[Setup, Engine] = {}


def engine_for(ranks: Ranks, setup: Setup) -> Engine:
    """The engine of a setup, loaded once in each process."""
    if setup not in _engines:
        config = EngineConfig(
            model_dir=setup.model_dir,
            tensor_parallel_size=ranks.tensor_size,
            pipeline_parallel_size=ranks.num_stages,
            precision=setup.precision,
            socket_path=Path("unused"),
            scratch_dir=Path("unused"),
            max_batch_rows=setup.max_batch_rows,
            device=TEST_DEVICE,
            max_prefill_tokens=setup.max_prefill_tokens,
            prefill_piece_tokens=setup.prefill_piece_tokens,
            kv_cache_bytes=setup.kv_cache_bytes,
            vision_cache_embeddings=setup.vision_cache_embeddings,
            base_model=setup.base_model,
            vision_encoder=setup.vision_encoder,
            quantization=setup.quantization,
        )
        _engines[setup] = load_engine(config, ranks).engine
    return _engines[setup]


def last_logits(ranks: Ranks, setup: Setup, request: GenerateRequest) -> np.ndarray:
    """Logits (vocabulary,) after the prompt, gathered from all ranks of the last stage.

    The others return an empty array.
    """
    engine = engine_for(ranks, setup)
    parts: list[torch.Tensor] = []
    choose = engine._sampler.choose

    def keep(logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]:
        if not parts and not logits.is_meta:
            parts.extend(gather_all(logits, ranks.tensor_group))
        return choose(logits, rows)

    sampling = replace(request.sampling, max_new_tokens=1)
    with mock.patch.object(engine._sampler, "choose", keep):
        generate(ranks, setup, [replace(request, sampling=sampling)])
    if not parts:
        return np.empty(0, dtype=np.float32)
    return torch.cat(parts, dim=-1)[0, : engine.language_model.vocab_size].float().cpu().numpy()


def generate(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest], rows_per_step: int = 1000
) -> dict[str, Outcome]:
    """Outcomes by request id; `rows_per_step` requests arrive before each step."""
    engine = engine_for(ranks, setup)
    waiting = list(enumerate(requests))
    outcomes: dict[str, Outcome] = {}
    while waiting or engine.has_work:
        for ticket, request in waiting[:rows_per_step]:
            engine.add(ticket, request)
        del waiting[:rows_per_step]
        for _, outcome in engine.step():
            assert outcome.request_id not in outcomes
            outcomes[outcome.request_id] = outcome
    return outcomes


@contextmanager
def _row_context_with(change: str) -> Iterator[None]:
    original = RowContext.__init__

    def broken(
        self: RowContext, cache: KVCache, rotary: RotaryTable, batch: RowBatch, dtype: torch.dtype
    ) -> None:
        if change == "positions" and batch.num_tokens == 1:
            shifted = [length + 1 for length in batch.prefix_lengths]
            original(self, cache, rotary, batch, dtype)
            places = torch.tensor(batch.own_starts) + torch.tensor(shifted)
            cos, sin = rotary.at(places[:, None], dtype)
            self._cos, self._sin = cos[:, None], sin[:, None]
            return
        original(self, cache, rotary, batch, dtype)
        if change == "own mask":
            self._mask = None
        if change == "prefix mask" and self._shared is not None:
            self._shared._mask = None

    with mock.patch.object(RowContext, "__init__", broken):
        yield


@contextmanager
def _not_causal() -> Iterator[None]:
    def broken(*args: Any, is_causal: bool = False, **kwargs: Any) -> torch.Tensor:
        return functional.scaled_dot_product_attention(*args, **kwargs)

    with mock.patch.object(attention, "scaled_dot_product_attention", broken):
        yield


_FAULTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "none": nullcontext,
    "decode positions off by one": lambda: _row_context_with("positions"),
    "mask of own tokens missing": lambda: _row_context_with("own mask"),
    "mask of prefixes missing": lambda: _row_context_with("prefix mask"),
    "prefill not causal": _not_causal,
}


def generate_with_fault(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest], fault: str
) -> dict[str, Outcome]:
    """`generate` with a deliberate error in the attention."""
    # Keys and values of another run would hide a wrong prefill.
    engine_for(ranks, setup).forget_media()
    with _FAULTS[fault]():
        return generate(ranks, setup, requests)


def choose_tokens(
    ranks: Ranks,
    logits: np.ndarray,
    rows: Sequence[Row],
    num_ids: int,
    eos_ids: Sequence[int] = (),
) -> list[int | None]:
    """The sampler's choice for whole logits (rows, padded vocabulary), split over the ranks."""
    part = torch.from_numpy(logits).chunk(ranks.tensor_size, dim=-1)[ranks.tensor_rank]
    return VocabParallelSampler(num_ids, eos_ids, ranks).choose(part.contiguous(), rows)


def choose_and_tell(
    ranks: Ranks, logits: np.ndarray, rows: Sequence[Row], num_ids: int
) -> list[tuple[int | None, list[float], list[tuple[float, ...]]]]:
    """`choose_tokens`, and what the rows asked to know of their tokens."""
    tokens = choose_tokens(ranks, logits, rows, num_ids)
    return [
        (token, row.logprobs, row.all_logprobs) for token, row in zip(tokens, rows, strict=True)
    ]


def vision_passes(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest], rows_per_step: int = 1000
) -> int:
    """How many times `generate` ran the vision tower."""
    engine = engine_for(ranks, setup)
    before = engine.inputs.vision.num_passes
    generate(ranks, setup, requests, rows_per_step)
    return engine.inputs.vision.num_passes - before


def frames_read(ranks: Ranks, setup: Setup, request: GenerateRequest) -> list[int]:
    """Which frames of the request's media this rank read."""
    frames: list[int] = []
    read = vision._read_frames

    def spy(media: MediaRef, start: int, stop: int) -> object:
        frames.extend(range(start, stop))
        return read(media, start, stop)

    with mock.patch.object(vision, "_read_frames", spy):
        generate(ranks, setup, [request])
    return frames


def generate_and_drop(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest], dropped: Sequence[int]
) -> dict[str, Outcome]:
    """`generate` all at once, dropping some (by place in `requests`) after three steps."""
    engine = engine_for(ranks, setup)
    for ticket, request in enumerate(requests):
        engine.add(ticket, request)
    outcomes: list[tuple[int, Outcome]] = []
    for _ in range(3):
        outcomes += engine.step()
    engine.drop(dropped)
    while engine.has_work:
        outcomes += engine.step()
    return {outcome.request_id: outcome for _, outcome in outcomes}


def num_parameters(ranks: Ranks, setup: Setup) -> int:
    """Numbers that this rank's modules hold."""
    engine = engine_for(ranks, setup)
    modules = (
        engine.language_model._model,
        engine.inputs.vision._tower,
        engine.inputs.vision._projector,
    )
    return sum(p.numel() for module in modules for p in module.parameters())


def save_distributed(ranks: Ranks, setup: Setup, directory: Path) -> None:
    """Write the language model as megatron-core itself does, every rank its shards."""
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.strategies import filesystem_async
    from megatron.core.dist_checkpointing.strategies.torch import TorchDistSaveShardedStrategy

    gpt = engine_for(ranks, setup).language_model._model
    strategy = TorchDistSaveShardedStrategy("torch_dist", 1, thread_count=1)
    # Its writer wants CUDA for nothing but waiting, and processes, which a daemon may not have.
    with (
        mock.patch.object(torch.cuda, "synchronize"),
        mock.patch.object(torch.cuda, "current_device", lambda: "cpu"),
        mock.patch.object(filesystem_async, "_get_write_results_queue", Queue),
        mock.patch.object(filesystem_async, "_process_memory", lambda: 0),
        mock.patch.dict(multiprocessing.current_process()._config, daemon=False),  # type: ignore[attr-defined]
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        dist_checkpointing.save(gpt.sharded_state_dict(prefix="model."), str(directory), strategy)


def prefilled_tokens(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest]
) -> tuple[int, dict[str, Outcome]]:
    """Positions computed for the prompts, from empty caches, and the outcomes."""
    engine = engine_for(ranks, setup)
    engine.forget_media()
    before = engine.num_prefilled_tokens
    outcomes = generate(ranks, setup, requests)
    return engine.num_prefilled_tokens - before, outcomes


def work_per_step(
    ranks: Ranks, setup: Setup, early: GenerateRequest, late: Sequence[GenerateRequest]
) -> list[tuple[int, int]]:
    """(tokens that `early` got, positions prefilled) in each step while `late` is prefilled."""
    engine = engine_for(ranks, setup)
    engine.add(0, early)
    engine.step()
    (row,) = engine.scheduler.active
    for ticket, request in enumerate(late, start=1):
        engine.add(ticket, request)
    work = []
    while engine.scheduler.num_waiting:
        num_tokens, num_prefilled = len(row.token_ids), engine.num_prefilled_tokens
        engine.step()
        work.append((len(row.token_ids) - num_tokens, engine.num_prefilled_tokens - num_prefilled))
        assert row in engine.scheduler.active or engine.scheduler.num_waiting == 0
    engine.drop(range(1 + len(late)))
    return work


def most_cache_bytes(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest]
) -> tuple[int, dict[str, Outcome]]:
    """The largest size that the KV cache ever had on this rank, and the outcomes."""
    cache = engine_for(ranks, setup).language_model.cache
    sizes = [0]
    reserve = cache.reserve

    def spy(need: CacheNeed) -> None:
        reserve(need)
        sizes.append(cache.num_bytes)

    with mock.patch.object(cache, "reserve", spy):
        outcomes = generate(ranks, setup, requests)
    return max(sizes), outcomes


def tower_calls(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest]
) -> tuple[int, dict[str, Outcome]]:
    """How often this rank ran the tower, and the outcomes."""
    encoder = engine_for(ranks, setup).inputs.vision
    calls = []
    features = encoder._features

    def spy(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        return features(pixels)

    with mock.patch.object(encoder, "_features", spy):
        outcomes = generate(ranks, setup, requests)
    return len(calls), outcomes


@dataclass(frozen=True)
class Held:
    """What a rank has of the language model."""

    num_stages: int
    num_layers: int
    has_embedding: bool
    has_head: bool
    cache_bytes: int
    cache_tokens: int


def held_on_rank(ranks: Ranks, setup: Setup) -> Held:
    """What this rank has of the language model."""
    engine = engine_for(ranks, setup)
    names = [name for name, _ in engine.language_model._model.named_parameters()]
    return Held(
        num_stages=ranks.num_stages,
        num_layers=len({name.split(".")[2] for name in names if name.startswith("decoder.layers")}),
        has_embedding=any(name.startswith("embedding") for name in names),
        has_head=any(name.startswith("output_layer") for name in names),
        cache_bytes=engine.language_model.cache.num_bytes,
        cache_tokens=engine.scheduler.limits.cache_tokens,
    )


def passes_of_prefill(
    ranks: Ranks, setup: Setup, requests: Sequence[GenerateRequest]
) -> tuple[list[int], dict[str, Outcome]]:
    """Positions of each pass through this rank's layers but decoding, and the outcomes."""
    engine = engine_for(ranks, setup)
    engine.forget_media()
    widths: list[int] = []
    run = engine.language_model._run

    def spy(context: PassContext) -> torch.Tensor:
        if context.num_tokens > 1:
            widths.append(context.num_tokens)
        return run(context)

    with mock.patch.object(engine.language_model, "_run", spy):
        outcomes = generate(ranks, setup, requests)
    return widths, outcomes
