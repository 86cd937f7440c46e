"""Choosing tokens where only the last pipeline stage has logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from worker.engine.pipeline import Pipeline
from worker.engine.scheduler import Row


class Sampler(Protocol):
    """What the engine needs to know of a sampler."""

    def choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]: ...


class PipelineSampler:
    """The last stage's ranks choose, everyone learns what. Collective over all ranks."""

    def __init__(self, sampler: Sampler, num_ids: int, pipeline: Pipeline) -> None:
        """num_ids: how many probabilities a row gets that asks for all."""
        self._sampler = sampler
        self._num_ids = num_ids
        self._pipeline = pipeline

    def choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]:
        """As `VocabParallelSampler.choose`; logits are read on the last stage only."""
        chosen = torch.full((len(rows),), -1)
        if self._pipeline.is_last:
            tokens = self._sampler.choose(logits, rows)
            chosen = torch.tensor([-1 if token is None else token for token in tokens])
        ids: list[int] = self._pipeline.tell(chosen).tolist()
        self._tell_probabilities([r for r, token in zip(rows, ids, strict=True) if token >= 0])
        return [token if token >= 0 else None for token in ids]

    def _tell_probabilities(self, rows: Sequence[Row]) -> None:
        """What the last stage has just appended to these rows."""
        asking = [row for row in rows if row.request.sampling.logprobs != "none"]
        everything = [row for row in asking if row.request.sampling.logprobs == "all"]
        if not asking:
            return
        own = torch.zeros(len(asking), dtype=torch.float64)
        table = torch.zeros((len(everything), self._num_ids), dtype=torch.float64)
        if self._pipeline.is_last:
            own = torch.tensor([row.logprobs[-1] for row in asking], dtype=torch.float64)
            if everything:
                table = torch.tensor([r.all_logprobs[-1] for r in everything], dtype=torch.float64)
        own = self._pipeline.tell(own)
        if everything:
            table = self._pipeline.tell(table)
        if self._pipeline.is_last:
            return
        for row, value in zip(asking, own.tolist(), strict=True):
            row.logprobs.append(value)
        for row, values in zip(everything, table.tolist(), strict=True):
            row.all_logprobs.append(tuple(values))
