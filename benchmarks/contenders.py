"""Those who answer a workload: transformers one by one, transformers in batches, our engine.

Each returns its rows' greedy tokens without the end-of-sequence id, so that they can be compared.
On a CPU, time is CPU time of this process, which has one thread: the same as the clock's on a
machine of one's own, and hardly touched by what else runs on a shared one. On a GPU it is the
clock's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

from benchmarks.workloads import Workload, read_pixels
from neva.model_profile import read_model_profile
from worker.engine.build import load_engine
from worker.engine.distributed import Ranks
from worker.engine.engine import Engine
from worker.engine.launch import EngineConfig, Precision
from worker.engine.protocol import GenerateRequest, GenerateResult

Answers = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Timed:
    answers: Answers
    seconds: float  # of CPU, on a GPU of the clock


def timed(answer: Callable[[], Answers], device: torch.device | None = None) -> Timed:
    on_gpu = device is not None and device.type == "cuda"
    clock = time.perf_counter if on_gpu else time.process_time
    start_s = clock()
    answers = answer()  # lists of numbers: whoever computes them on a GPU has waited for it
    return Timed(answers, clock() - start_s)


class Transformers:
    """`generate` of Hugging Face transformers, batches padded on the left."""

    def __init__(
        self,
        model_dir: Path,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        profile = read_model_profile(model_dir)
        self._device = device or torch.device("cpu")
        self._dtype = dtype
        self._image_token_id = profile.image_token_id
        self._eos_ids = profile.eos_token_ids
        model: Any = LlavaForConditionalGeneration.from_pretrained(model_dir, dtype=dtype)
        self._model = model.to(self._device)

    def answer(self, workload: Workload, batch_size: int) -> Answers:
        answers: Answers = {}
        for start in range(0, len(workload.requests), batch_size):
            answers |= self._answer(workload.requests[start : start + batch_size])
        return answers

    @torch.inference_mode()
    def _answer(self, rows: Sequence[GenerateRequest]) -> Answers:
        all_ids = [
            [*row.before_ids, *[self._image_token_id] * row.num_media_tokens, *row.after_ids]
            for row in rows
        ]
        length = max(len(ids) for ids in all_ids)
        pad_id = self._eos_ids[0]
        generated = self._model.generate(
            input_ids=torch.tensor(
                [[pad_id] * (length - len(ids)) + ids for ids in all_ids], device=self._device
            ),
            attention_mask=torch.tensor(
                [[0] * (length - len(ids)) + [1] * len(ids) for ids in all_ids],
                device=self._device,
            ),
            pixel_values=read_pixels(rows).to(device=self._device, dtype=self._dtype),
            max_new_tokens=rows[0].sampling.max_new_tokens,
            min_new_tokens=rows[0].sampling.min_new_tokens,
            do_sample=False,
            eos_token_id=list(self._eos_ids),
            pad_token_id=pad_id,
        )
        return {
            row.request_id: self._until_eos(ids)
            for row, ids in zip(rows, generated[:, length:].tolist(), strict=True)
        }

    def _until_eos(self, ids: list[int]) -> tuple[int, ...]:
        ends = [place for place, token in enumerate(ids) if token in self._eos_ids]
        return tuple(ids[: ends[0]] if ends else ids)


class OurEngine:
    """The engine in this process, one rank; every answering starts with empty caches."""

    def __init__(self, model_dir: Path, ranks: Ranks, precision: Precision = "fp32") -> None:
        self._ranks = ranks
        self._config = EngineConfig(
            model_dir=model_dir,
            tensor_parallel_size=ranks.tensor_size,
            precision=precision,
            socket_path=Path("unused"),
            scratch_dir=Path("unused"),
        )
        self.engine: Engine = load_engine(self._config, ranks).engine
        self._next_ticket = 0

    def answer(self, workload: Workload) -> Answers:
        """All rows are there from the start, as they are in a job.

        Raises:
            RuntimeError: the engine failed a row.
        """
        self.engine.forget_media()
        answers: Answers = {}
        for request in workload.requests:
            self.engine.add(self._next_ticket, request)
            self._next_ticket += 1
        while self.engine.has_work:
            for _, outcome in self.engine.step():
                if not isinstance(outcome, GenerateResult):
                    raise RuntimeError(outcome.message)
                answers[outcome.request_id] = outcome.token_ids
        return answers
