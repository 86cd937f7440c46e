"""One row, one answer: whatever stands beside it, on however many ranks, at whichever try."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.engine.models import TinyLlava, make_request, write_media
from tests.worker.engine.rank_functions import Setup, generate, prefilled_tokens
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import GenerateRequest, Outcome, SamplingParams

NUM_ROWS = 10
COLD = SamplingParams(temperature=0.2, top_p=0.9, repetition_penalty=1.2, max_new_tokens=7)
KINDS = (
    SamplingParams(greedy=True, max_new_tokens=9),
    COLD,
    SamplingParams(temperature=1.5, top_k=40, max_new_tokens=5, seed=3),
    replace(COLD, temperature=0.7, min_new_tokens=6, stop_strings=("w1 w2",)),
)

_answers: dict[str, Outcome] = {}  # of one rank, each row alone: the first pool's


@pytest.fixture(scope="module")
def requests(models_dir: Path) -> list[GenerateRequest]:
    media = [write_media(models_dir / f"batch {n}", 1 + n, seed=n) for n in range(3)]
    return [
        make_request(
            f"row {n}",
            4 + 3 * (n % 4),
            media=media[n % 3] if n % 4 else None,
            seed=n,
            sampling=KINDS[n % len(KINDS)],
        )
        for n in range(NUM_ROWS)
    ]


@settings(max_examples=10)
@given(
    order=st.lists(st.integers(0, NUM_ROWS - 1), min_size=1, unique=True),
    max_batch_rows=st.sampled_from([2, 5, NUM_ROWS]),
    rows_per_step=st.none() | st.integers(1, 4),
)
def test_no_batch_and_no_number_of_ranks_changes_an_answer(
    pool: RankPool,
    model: TinyLlava,
    requests: list[GenerateRequest],
    order: list[int],
    max_batch_rows: int,
    rows_per_step: int | None,
) -> None:
    if not _answers:
        alone = Setup(model.directory, max_batch_rows=1)
        _answers.update(same_on_all(pool.run(generate, alone, requests)))
    asked = [requests[n] for n in order]
    setup = Setup(model.directory, max_batch_rows)
    if rows_per_step is None:  # all at once, by an engine that has seen nothing yet: a retry
        _, outcomes = same_on_all(pool.run(prefilled_tokens, setup, asked))
    else:
        outcomes = same_on_all(pool.run(generate, setup, asked, rows_per_step))
    assert outcomes == {request.request_id: _answers[request.request_id] for request in asked}
