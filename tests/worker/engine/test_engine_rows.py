"""What rows may rely on: their answer is their own, and their neighbour's error is not theirs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neva.reasons import Reason
from tests.worker.engine.models import TinyLlava, make_request, write_media
from tests.worker.engine.rank_functions import (
    Setup,
    frames_read,
    generate,
    generate_and_drop,
    vision_passes,
)
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import (
    GenerateRequest,
    GenerateResult,
    MediaRef,
    Outcome,
    RequestFailed,
    SamplingParams,
)

SHORT = SamplingParams(greedy=True, max_new_tokens=6)

two_ranks = pytest.mark.parametrize("pool", [2], indirect=True)


def run(
    pool: RankPool, setup: Setup, requests: list[GenerateRequest], rows_per_step: int = 1000
) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = same_on_all(pool.run(generate, setup, requests, rows_per_step))
    assert outcomes.keys() == {request.request_id for request in requests}
    return outcomes


# ---- sampling ----

_sampled_by_earlier_pools: list[dict[str, Outcome]] = []


def test_sampled_answers_are_the_same_in_any_batch_and_at_any_parallel_size(
    pool: RankPool, model: TinyLlava, models_dir: Path
) -> None:
    media = write_media(models_dir / "sampled", num_frames=2, seed=2)
    sampling = SamplingParams(
        temperature=0.7, top_k=50, top_p=0.9, repetition_penalty=1.2, max_new_tokens=8, seed=7
    )
    requests = [
        make_request(f"row {i}", 4 + i % 3, media=media if i % 2 else None, sampling=sampling)
        for i in range(7)
    ]
    requests.append(make_request("greedy", 5, sampling=replace(sampling, greedy=True)))
    together = run(pool, Setup(model.directory), requests)
    one_by_one = run(pool, Setup(model.directory, max_batch_rows=1), requests)
    backwards = run(pool, Setup(model.directory, max_batch_rows=3), requests[::-1], 1)
    assert together == one_by_one == backwards
    _sampled_by_earlier_pools.append(together)
    assert together == _sampled_by_earlier_pools[0]
    assert len({str(outcome) for outcome in together.values()}) == len(requests)


@two_ranks
def test_another_seed_or_row_key_gives_another_answer(pool: RankPool, model: TinyLlava) -> None:
    sampling = SamplingParams(temperature=1.0, max_new_tokens=12)
    row = make_request("a", 5, sampling=sampling)
    others = [
        replace(row, request_id="b", row_key="other"),
        replace(row, request_id="c", sampling=replace(sampling, seed=1)),
        replace(row, request_id="d"),
    ]
    outcomes = run(pool, Setup(model.directory), [row, *others])
    a, b, c, d = (outcomes[name].token_ids for name in "abcd")  # type: ignore[union-attr]
    assert a == d
    assert len({a, b, c}) == 3


# ---- endings ----


def greedy_tokens(pool: RankPool, setup: Setup, request: GenerateRequest) -> tuple[int, ...]:
    outcome = run(pool, setup, [request])[request.request_id]
    assert isinstance(outcome, GenerateResult)
    assert outcome.finish_reason == "length"
    return outcome.token_ids


@two_ranks
def test_every_end_of_sequence_id_of_the_model_stops_but_not_before_the_minimum(
    pool: RankPool, model: TinyLlava, tmp_path: Path
) -> None:
    request = make_request("row", 6)
    tokens = greedy_tokens(pool, Setup(model.directory), request)
    directory = tmp_path / "model"
    shutil.copytree(model.directory, directory)
    eos_ids = [tokens[20], tokens[5]]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": eos_ids}))
    end = min(tokens.index(eos) for eos in eos_ids)
    stopped = run(pool, Setup(directory), [request])["row"]
    assert stopped == GenerateResult("row", tokens[:end], "stop", stop_ids=(tokens[end],))
    patient = replace(request, sampling=replace(request.sampling, min_new_tokens=end + 3))
    outcome = run(pool, Setup(directory), [patient])["row"]
    assert isinstance(outcome, GenerateResult)
    assert len(outcome.token_ids) >= end + 3
    assert not set(outcome.token_ids[: end + 3]) & set(eos_ids)


@two_ranks
def test_stop_strings_of_one_and_of_several_tokens_are_not_part_of_the_answer(
    pool: RankPool, model: TinyLlava
) -> None:
    request = make_request("row", 6)
    tokens = greedy_tokens(pool, Setup(model.directory), request)
    for string, end in (
        (f"w{tokens[7]}", tokens.index(tokens[7])),
        (f"w{tokens[9]} w{tokens[10]}", first_pair(tokens, tokens[9], tokens[10])),
    ):
        sampling = replace(request.sampling, stop_strings=("never", string))
        stopped = run(pool, Setup(model.directory), [replace(request, sampling=sampling)])["row"]
        assert isinstance(stopped, GenerateResult)
        assert stopped.finish_reason == "stop"
        assert stopped.token_ids == tokens[:end]
        assert stopped.stop_text_tail.strip() == ""


def first_pair(tokens: tuple[int, ...], first: int, second: int) -> int:
    return next(i for i in range(31) if (tokens[i], tokens[i + 1]) == (first, second))


@two_ranks
def test_a_row_longer_than_the_cache_so_far_joins_without_disturbing_the_others(
    pool: RankPool, model: TinyLlava
) -> None:
    short, long = make_request("short", 5), make_request("long", 180)
    alone = [run(pool, Setup(model.directory, max_batch_rows=1), [r]) for r in (short, long)]
    fresh_cache = Setup(model.directory, max_batch_rows=5)
    assert run(pool, fresh_cache, [short, long], rows_per_step=1) == alone[0] | alone[1]


# ---- media ----


@two_ranks
def test_a_pixel_file_that_cannot_be_read_fails_its_rows_on_all_ranks_and_no_others(
    pool: RankPool, model: TinyLlava, video: MediaRef, tmp_path: Path
) -> None:
    short_file = write_media(tmp_path / "short", num_frames=3, seed=1)
    content = (tmp_path / "short").read_bytes()
    (tmp_path / "short").write_bytes(content[:-4])
    missing = replace(video, key="missing", path=str(tmp_path / "missing"))
    good = make_request("good", 6, media=video)
    requests = [
        good,
        make_request("missing 1", 6, media=missing),
        make_request("missing 2", 7, media=missing),
        make_request("short", 6, media=short_file),
    ]
    outcomes = run(pool, Setup(model.directory), requests)
    assert outcomes["good"] == run(pool, Setup(model.directory), [good])["good"]
    for name, word in (("missing 1", "missing"), ("missing 2", "missing"), ("short", "bytes")):
        failure = outcomes[name]
        assert isinstance(failure, RequestFailed)
        assert failure.reason == Reason.MEDIA_UNREADABLE
        assert failure.retryable
        assert word in failure.message


def test_a_row_whose_logits_are_not_finite_fails_alone(
    pool: RankPool, model: TinyLlava, video: MediaRef, tmp_path: Path
) -> None:
    bad_pixels = np.full((3, 3, 32, 32), np.nan, dtype=np.float32)
    bad_pixels.tofile(tmp_path / "nan")
    bad = MediaRef("nan", str(tmp_path / "nan"), bad_pixels.shape)
    before = [
        make_request("before 1", 6, media=video, sampling=SHORT),
        make_request("before 2", 9, sampling=SHORT),
    ]
    # Shorter than the bad row, so its mask covers places that the bad row has written.
    after = [
        make_request("after 1", 4, sampling=SHORT),
        make_request("after 2", 20, sampling=SHORT),
    ]
    broken = make_request("broken", 6, media=bad, sampling=SHORT)
    # A cache of its own: nothing but this test has written to it.
    setup = Setup(model.directory, max_batch_rows=3)
    requests = [*before, broken, *after]
    outcomes = run(pool, setup, requests)
    assert outcomes.pop("broken") == RequestFailed(
        "broken", Reason.NUMERICAL_ERROR, "logits of token 0 are not finite", retryable=False
    )
    assert outcomes == run(pool, Setup(model.directory, max_batch_rows=1), [*before, *after])


@two_ranks
def test_a_video_is_encoded_once_while_it_stays_in_the_cache(
    pool: RankPool, model: TinyLlava, tmp_path: Path
) -> None:
    videos = [write_media(tmp_path / f"video {i}", 2, seed=i) for i in range(3)]
    tokens_per_video = 2 * 16
    requests = [
        make_request(f"{question} about {i}", 5 + question, media=videos[i], sampling=SHORT)
        for question in range(3)
        for i in range(3)
    ]
    for capacity, expected in ((3 * tokens_per_video, 3), (2 * tokens_per_video, 9), (1, 9)):
        setup = Setup(model.directory, 1, vision_cache_embeddings=capacity)
        assert same_on_all(pool.run(vision_passes, setup, requests)) == expected
    # Together in one batch even a cache that keeps nothing costs no second pass.
    setup = Setup(model.directory, 9, vision_cache_embeddings=1)
    assert same_on_all(pool.run(vision_passes, setup, requests)) == 3


def test_each_rank_reads_only_its_own_frames(
    pool: RankPool, model: TinyLlava, tmp_path: Path
) -> None:
    media = write_media(tmp_path / "five frames", num_frames=5, seed=3)
    request = make_request("row", 5, media=media, sampling=SHORT)
    read = pool.run(frames_read, Setup(model.directory, 2), request)
    assert [frame for part in read for frame in part] == [0, 1, 2, 3, 4]
    assert max(len(part) for part in read) == -(-5 // len(read))


@two_ranks
def test_a_key_that_stands_for_another_video_fails_the_row_and_not_the_engine(
    pool: RankPool, model: TinyLlava, video: MediaRef, tmp_path: Path
) -> None:
    longer = replace(write_media(tmp_path / "longer", 4, seed=2), key=video.key)
    requests = [make_request("good", 5, media=video), make_request("bad", 5, media=longer)]
    outcomes = run(pool, Setup(model.directory, 2), requests)
    assert isinstance(outcomes["good"], GenerateResult)
    failure = outcomes["bad"]
    assert isinstance(failure, RequestFailed)
    assert failure.reason == Reason.MEDIA_TOKEN_CONFLICT
    assert "64 media tokens" in failure.message
    assert "48 features" in failure.message


# ---- rows that nobody wants any more ----


@two_ranks
def test_dropped_rows_leave_the_others_as_they_were(pool: RankPool, model: TinyLlava) -> None:
    requests = [make_request(f"row {i}", 5 + i) for i in range(5)]
    setup = Setup(model.directory, max_batch_rows=3)
    everything = run(pool, setup, requests)
    # Tickets are places in the list: 0 is active in slot 0, 4 waits.
    outcomes = same_on_all(pool.run(generate_and_drop, setup, requests, [0, 4, 77]))
    kept = ("row 1", "row 2", "row 3")
    assert outcomes == {name: everything[name] for name in kept}


@two_ranks
def test_prefill_in_small_portions_gives_the_same_answers(pool: RankPool, model: TinyLlava) -> None:
    requests = [make_request(f"row {i}", 10 + i) for i in range(4)]
    at_once = run(pool, Setup(model.directory), requests)
    assert run(pool, Setup(model.directory, max_prefill_tokens=11), requests) == at_once


@two_ranks
def test_an_answer_brings_a_log_probability_for_each_of_its_tokens(
    pool: RankPool, model: TinyLlava
) -> None:
    plain = make_request("row", 6)
    asking = replace(plain, sampling=replace(plain.sampling, logprobs="chosen"))
    without = run(pool, Setup(model.directory), [plain])["row"]
    answer = run(pool, Setup(model.directory), [asking])["row"]
    assert isinstance(answer, GenerateResult)
    assert isinstance(without, GenerateResult)
    assert answer.token_ids == without.token_ids
    assert without.logprobs is None
    assert answer.logprobs is not None
    assert len(answer.logprobs) == len(answer.token_ids)
    ids = torch.tensor([[*plain.before_ids, *plain.after_ids, *answer.token_ids]])
    with torch.inference_mode():
        logits = model.reference(input_ids=ids).logits[0].double()
    start = plain.num_prompt_tokens - 1
    expected = [
        float(logits[start + step].log_softmax(-1)[token])
        for step, token in enumerate(answer.token_ids)
    ]
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)
