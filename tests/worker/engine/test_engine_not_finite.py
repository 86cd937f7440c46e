"""Numbers that are not finite fail the rows that meet them, on all ranks alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from neva.reasons import Reason
from tests.worker.engine.models import make_llava, make_request
from tests.worker.engine.rank_functions import Setup, generate
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import MediaRef, RequestFailed, SamplingParams

SHORT = SamplingParams(greedy=True, max_new_tokens=4)


@pytest.fixture(scope="module", params=[1, 2], ids=lambda stages: f"pp{stages}")
def two_a_stage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RankPool]:
    """Two tensor-parallel ranks, in each of one or two stages."""
    folder = tmp_path_factory.mktemp("ranks")
    with closing(RankPool(2 * request.param, folder, num_stages=request.param)) as pool:
        yield pool


@pytest.mark.parametrize("place", ["k_proj", "v_proj", "o_proj", "down_proj", "norm", "lm_head"])
def test_where_only_one_rank_meets_them_all_ranks_fail_the_rows(
    two_a_stage: RankPool, tmp_path: Path, video: MediaRef, place: str
) -> None:
    model = make_llava(tmp_path / "nan")
    file = model.directory / "model.safetensors"
    tensors = load_file(file)
    name = max(n for n in tensors if place in n and "vision" not in n)  # the last layer's
    # The second rank has the last rows of keys, values and head, the last columns of the others.
    if place in ("k_proj", "v_proj", "lm_head"):
        tensors[name][-1] = torch.nan
    else:
        tensors[name][..., -1] = torch.nan
    save_file(tensors, file)
    requests = [
        make_request("video", 9, media=video, sampling=SHORT),
        make_request("text only", 30, sampling=SHORT),
        make_request("short", 6, sampling=SHORT),
    ]
    # Prefixes in several pieces: a rank that went on with one would wait for the other for ever.
    setup = Setup(model.directory, prefill_piece_tokens=16, max_prefill_tokens=24)
    outcomes = same_on_all(two_a_stage.run(generate, setup, requests))
    assert outcomes.keys() == {"video", "text only", "short"}
    for outcome in outcomes.values():
        assert isinstance(outcome, RequestFailed)
        assert outcome.reason == Reason.NUMERICAL_ERROR
