"""Pipeline stages: the same answers as one rank alone, each rank with its share of the layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.worker.engine.models import (
    TinyLlava,
    make_llava,
    make_request,
    reference_answer,
    write_media,
)
from tests.worker.engine.rank_functions import (
    Setup,
    generate,
    held_on_rank,
    last_logits,
    passes_of_prefill,
    prefilled_tokens,
    vision_passes,
)
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import (
    GenerateRequest,
    GenerateResult,
    Outcome,
    RequestFailed,
    SamplingParams,
)

MAX_LOGIT_DIFFERENCE = 1e-5
NUM_LAYERS = 5  # no multiple of any number of stages here


@pytest.fixture(scope="module", params=[(1, 2), (2, 2), (1, 3)], ids=lambda p: f"tp{p[0]}pp{p[1]}")
def staged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RankPool]:
    """Ranks of each (tensor parallel size, pipeline parallel size)."""
    tensor_size, num_stages = request.param
    directory = tmp_path_factory.mktemp("stages")
    pool = RankPool(tensor_size * num_stages, directory, num_stages)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    """One rank with the whole model."""
    pool = RankPool(1, tmp_path_factory.mktemp("alone"))
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> TinyLlava:
    return make_llava(tmp_path_factory.mktemp("deep") / "model", num_hidden_layers=NUM_LAYERS)


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[GenerateRequest]:
    """Rows of unequal length; three of them share a prefix."""
    folder = tmp_path_factory.mktemp("media")
    video = write_media(folder / "video", num_frames=3, seed=1)
    image = write_media(folder / "image", num_frames=1, seed=2)
    first = make_request("video", 12, media=video, seed=4)
    return [
        first,
        make_request("image", 17, media=image, seed=5),
        make_request("text only", 23, seed=6),
        replace(first, request_id="b", row_key="b", after_ids=first.after_ids[::-1]),
        replace(first, request_id="c", row_key="c", after_ids=first.after_ids[2:]),
    ]


def tokens_of(outcomes: dict[str, Outcome]) -> dict[str, tuple[int, ...]]:
    tokens = {}
    for name, outcome in outcomes.items():
        assert isinstance(outcome, GenerateResult), outcome
        tokens[name] = outcome.token_ids
    return tokens


def with_sampling(
    requests: Sequence[GenerateRequest], sampling: SamplingParams
) -> list[GenerateRequest]:
    return [replace(request, sampling=sampling) for request in requests]


def test_logits_and_greedy_tokens_equal_those_of_transformers(
    deep: TinyLlava, requests: list[GenerateRequest], staged: RankPool
) -> None:
    setup = Setup(deep.directory)
    expected: dict[str, tuple[int, ...]] = {}
    differences = []
    for request in requests:
        logits, expected[request.request_id] = reference_answer(deep, request)
        found = staged.run(last_logits, setup, request)[-1]
        differences.append(float(np.abs(found - logits.numpy()).max()))
    print(f"largest logit difference of {len(differences)} rows: {max(differences):.1e}")
    assert max(differences) <= MAX_LOGIT_DIFFERENCE
    assert tokens_of(same_on_all(staged.run(generate, setup, requests))) == expected
    # Rows that come and go at any step, more of them than there are slots.
    setup = Setup(deep.directory, max_batch_rows=2)
    assert tokens_of(same_on_all(staged.run(generate, setup, requests[::-1], 1))) == expected


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(greedy=False, temperature=0.8, top_p=0.9, seed=11, max_new_tokens=24),
        SamplingParams(
            greedy=False,
            temperature=1.1,
            top_k=20,
            repetition_penalty=1.3,
            min_new_tokens=24,
            max_new_tokens=24,
            seed=12,
        ),
    ],
    ids=["top_p", "top_k and penalty"],
)
def test_seeded_sampling_gives_what_one_rank_gives(
    deep: TinyLlava,
    requests: list[GenerateRequest],
    staged: RankPool,
    alone: RankPool,
    sampling: SamplingParams,
) -> None:
    setup, rows = Setup(deep.directory), with_sampling(requests, sampling)
    expected = tokens_of(alone.run(generate, setup, rows)[0])
    assert tokens_of(same_on_all(staged.run(generate, setup, rows))) == expected
    assert len({token for tokens in expected.values() for token in tokens}) > 20


@pytest.mark.parametrize("asked", ["chosen", "all"])
def test_probabilities_come_back_to_every_rank(
    deep: TinyLlava,
    requests: list[GenerateRequest],
    staged: RankPool,
    alone: RankPool,
    asked: str,
) -> None:
    # Not all rows ask.
    sampling = replace(requests[0].sampling, logprobs=asked, max_new_tokens=5)  # type: ignore[arg-type]
    rows = [*with_sampling(requests[:2], sampling), *requests[2:]]
    setup = Setup(deep.directory)
    expected = alone.run(generate, setup, rows)[0]
    found = same_on_all(staged.run(generate, setup, rows))
    assert tokens_of(found) == tokens_of(expected)
    for name, outcome in expected.items():
        assert (found[name].logprobs is None) == (name not in ("video", "image"))
        if outcome.logprobs is not None:
            assert np.allclose(found[name].logprobs, outcome.logprobs, atol=1e-4)
        assert (found[name].all_logprobs is None) == (outcome.all_logprobs is None)
        if outcome.all_logprobs is not None:
            assert np.allclose(found[name].all_logprobs, outcome.all_logprobs, atol=1e-4)


@pytest.mark.parametrize("piece_tokens", [512, 24])
def test_a_shared_prefix_is_computed_once_in_pieces_or_not(
    deep: TinyLlava,
    requests: list[GenerateRequest],
    staged: RankPool,
    alone: RankPool,
    piece_tokens: int,
) -> None:
    setup = Setup(deep.directory, prefill_piece_tokens=piece_tokens, max_prefill_tokens=64)
    rows = [row for row in requests if row.media is not None and row.media.key == "video"]
    assert len(rows) == 3
    num_alone, expected = alone.run(prefilled_tokens, setup, rows)[0]
    num_positions, outcomes = same_on_all(staged.run(prefilled_tokens, setup, rows))
    assert num_positions == num_alone < sum(row.num_prompt_tokens for row in rows)
    assert tokens_of(outcomes) == tokens_of(expected)
    staged.run(generate, setup, [requests[2]])
    assert same_on_all(staged.run(vision_passes, setup, rows)) == 0


def test_a_long_prefill_is_cut_so_that_stages_work_at_the_same_time(
    staged: RankPool, alone: RankPool, tmp_path: Path
) -> None:
    model = make_llava(tmp_path / "long", num_hidden_layers=3, max_position_embeddings=1024)
    row = make_request("long", 900, sampling=SamplingParams(greedy=True, max_new_tokens=8))
    logits, tokens = reference_answer(model, row)
    setup = Setup(model.directory, prefill_piece_tokens=1024)
    found = staged.run(last_logits, setup, row)[-1]
    assert float(np.abs(found - logits.numpy()).max()) <= MAX_LOGIT_DIFFERENCE
    widths, outcomes = same_on_all(staged.run(passes_of_prefill, setup, [row]))
    # 644 tokens of prefix, padded to 648, and 256 of the row's own.
    assert widths == [256, 256, 136, 256]
    assert tokens_of(outcomes) == {"long": tokens}
    assert alone.run(passes_of_prefill, setup, [row])[0][0] == [648 + 256]


def test_each_rank_holds_only_its_stages_layers_and_their_cache(
    deep: TinyLlava, requests: list[GenerateRequest], staged: RankPool
) -> None:
    setup = Setup(deep.directory)
    staged.run(generate, setup, requests)
    held = staged.run(held_on_rank, setup)
    num_stages = held[0].num_stages
    tensor_size = len(held) // num_stages
    layers = {2: [3, 2], 3: [2, 2, 1]}[num_stages]
    assert [h.num_layers for h in held] == [n for n in layers for _ in range(tensor_size)]
    assert [h.has_embedding for h in held] == [i < tensor_size for i in range(len(held))]
    assert [h.has_head for h in held] == [i >= len(held) - tensor_size for i in range(len(held))]
    bytes_per_layer = {h.cache_bytes / h.num_layers for h in held}
    assert len(bytes_per_layer) == 1
    assert min(bytes_per_layer) > 0


def test_the_budget_for_keys_and_values_is_that_of_the_largest_stage(
    deep: TinyLlava, staged: RankPool
) -> None:
    setup = Setup(deep.directory, kv_cache_bytes=1 << 20)
    held = staged.run(held_on_rank, setup)
    tensor_size = len(held) // held[0].num_stages
    token_bytes = max(h.num_layers for h in held) * 2 * (2 // tensor_size) * 16 * 4
    assert {h.cache_tokens for h in held} == {(1 << 20) // token_bytes}


def test_a_video_that_cannot_be_read_fails_its_rows_on_all_ranks(
    deep: TinyLlava, requests: list[GenerateRequest], staged: RankPool
) -> None:
    media = requests[0].media
    assert media is not None
    gone = replace(requests[0], media=replace(media, key="gone", path=media.path + "-gone"))
    outcomes = same_on_all(staged.run(generate, Setup(deep.directory), [gone, requests[1]]))
    assert isinstance(outcomes["video"], RequestFailed)
    assert isinstance(outcomes["image"], GenerateResult)


@pytest.mark.parametrize("layer", [0, NUM_LAYERS - 1])
def test_numbers_that_are_not_finite_are_noticed_wherever_they_arise(
    staged: RankPool, requests: list[GenerateRequest], tmp_path: Path, layer: int
) -> None:
    model = make_llava(tmp_path / "nan", num_hidden_layers=NUM_LAYERS)
    file = model.directory / "model.safetensors"
    tensors = load_file(file)
    name = next(n for n in tensors if f"language_model.layers.{layer}.mlp.down_proj" in n)
    tensors[name][0, 0] = torch.nan
    save_file(tensors, file)
    outcomes = same_on_all(staged.run(generate, Setup(model.directory), requests))
    assert len(outcomes) == len(requests)
    for outcome in outcomes.values():
        assert isinstance(outcome, RequestFailed)
        assert "not finite" in outcome.message


@pytest.mark.parametrize("ties", [True, False])
def test_first_and_last_stage_have_their_own_copy_of_tied_embeddings(
    staged: RankPool, requests: list[GenerateRequest], tmp_path: Path, ties: bool
) -> None:
    model = make_llava(tmp_path / "tied", num_hidden_layers=3, tie_word_embeddings=ties)
    expected = {row.request_id: reference_answer(model, row)[1] for row in requests}
    found = same_on_all(staged.run(generate, Setup(model.directory), requests))
    assert tokens_of(found) == expected
