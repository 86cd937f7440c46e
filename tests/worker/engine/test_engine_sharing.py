"""What rows share, and what it must not change: prefixes, passes, memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neva.reasons import Reason
from tests.worker.engine.models import TinyLlava, make_request, reference_answer, write_media
from tests.worker.engine.rank_functions import (
    Setup,
    generate_and_drop,
    most_cache_bytes,
    prefilled_tokens,
    tower_calls,
    work_per_step,
)
from tests.worker.engine.ranks import RankPool, same_on_all
from tests.worker.engine.test_engine_rows import SHORT, run, two_ranks
from worker.engine.protocol import (
    GenerateRequest,
    GenerateResult,
    MediaRef,
    RequestFailed,
)


def questions(video: MediaRef, count: int, first_length: int = 5) -> list[GenerateRequest]:
    """Rows that differ behind the media only."""
    rows = [make_request(f"q{i}", first_length + 3 * i, media=video, seed=i) for i in range(count)]
    return [replace(row, before_ids=rows[0].before_ids) for row in rows]


def test_questions_about_one_video_cost_one_prefill_of_it_and_change_no_answer(
    pool: RankPool, model: TinyLlava, video: MediaRef, tmp_path: Path
) -> None:
    other = write_media(tmp_path / "another", num_frames=2, seed=9)
    asked = questions(video, 4)
    about_other = [replace(r, request_id=f"o{r.request_id}") for r in questions(other, 2, 12)]
    text = make_request("text only", 9)
    requests = [asked[0], about_other[0], text, *asked[1:], about_other[1]]
    setup = Setup(model.directory, max_batch_rows=7)
    num_tokens, together = same_on_all(pool.run(prefilled_tokens, setup, requests))
    expected = {}
    for request in requests:
        _, tokens = reference_answer(model, request)
        expected[request.request_id] = tokens
    assert {name: outcome.token_ids for name, outcome in together.items()} == expected
    # 3 + 48 and 3 + 32 positions of prefixes, then the questions, all padded to multiples of 8.
    assert num_tokens == 56 + 40 + (8 + 8 + 8 + 16) + (16 + 16) + 16


def test_every_cut_of_the_prompts_gives_the_answers_of_transformers(
    pool: RankPool, model: TinyLlava, video: MediaRef
) -> None:
    rows = questions(video, 2, 12)
    ends_with_media = replace(rows[0], request_id="ends with media", after_ids=())
    requests = [*rows, ends_with_media, make_request("text only", 30)]
    expected = {r.request_id: reference_answer(model, r)[1] for r in requests}
    for piece, step in ((7, 8192), (16, 20), (512, 1)):
        setup = Setup(
            model.directory, max_batch_rows=3, max_prefill_tokens=step, prefill_piece_tokens=piece
        )
        outcomes = run(pool, setup, requests, rows_per_step=2)
        found = {name: o.token_ids for name, o in outcomes.items() if isinstance(o, GenerateResult)}
        assert found == expected, (piece, step)


@two_ranks
def test_decoding_goes_on_while_long_prompts_are_computed(
    pool: RankPool, model: TinyLlava, tmp_path: Path
) -> None:
    early = make_request("early", 5)
    late = [
        make_request(f"late {i}", 6, media=write_media(tmp_path / f"late {i}", 9, seed=i))
        for i in range(3)
    ]
    setup = Setup(model.directory, max_prefill_tokens=32, prefill_piece_tokens=16)
    work = same_on_all(pool.run(work_per_step, setup, early, late))
    assert all(num_tokens == 1 for num_tokens, _ in work)
    assert all(num_prefilled <= 32 for _, num_prefilled in work)
    assert sum(num_prefilled for _, num_prefilled in work) >= 3 * 9 * 16


@two_ranks
def test_rows_wait_for_memory_and_all_are_answered_within_it(
    pool: RankPool, model: TinyLlava, video: MediaRef, tmp_path: Path
) -> None:
    requests = [
        *questions(video, 3),
        *[make_request(f"text {i}", 20 + 9 * i) for i in range(5)],
        make_request("long", 7, media=write_media(tmp_path / "long", 6, seed=2)),
    ]
    # 3 layers × keys and values × 1 head × 16 numbers × 4 bytes a token and rank.
    for num_tokens in (192, 320, 10_000):
        setup = Setup(model.directory, 8, kv_cache_bytes=num_tokens * 3 * 2 * 16 * 4)
        num_bytes, outcomes = same_on_all(pool.run(most_cache_bytes, setup, requests))
        assert outcomes == run(pool, Setup(model.directory, 1), requests)
        assert num_bytes <= num_tokens * 3 * 2 * 16 * 4


@two_ranks
def test_several_videos_go_through_the_tower_together_and_only_the_good_ones(
    pool: RankPool, model: TinyLlava, tmp_path: Path
) -> None:
    media = [write_media(tmp_path / f"video {i}", 1 + i % 3, seed=i) for i in range(5)]
    media[3] = replace(media[3], path=str(tmp_path / "missing"))
    requests = [make_request(f"row {i}", 6, media=m, sampling=SHORT) for i, m in enumerate(media)]
    setup = Setup(model.directory, max_batch_rows=6)
    num_calls, together = same_on_all(pool.run(tower_calls, setup, requests))
    assert num_calls == 1
    alone = {}
    for request in requests:
        alone |= run(pool, Setup(model.directory, max_batch_rows=1), [request])
    assert together == alone
    assert isinstance(together["row 3"], RequestFailed)
    assert together["row 3"].reason == Reason.MEDIA_UNREADABLE


@two_ranks
def test_dropped_rows_take_their_half_computed_prefix_with_them(
    pool: RankPool, model: TinyLlava, video: MediaRef
) -> None:
    setup = Setup(model.directory, 3, max_prefill_tokens=8, prefill_piece_tokens=8)
    requests = [*questions(video, 2), make_request("text only", 9)]
    outcomes = same_on_all(pool.run(generate_and_drop, setup, requests, [0, 1]))
    assert outcomes == run(pool, Setup(model.directory, 1), requests[2:])
    assert run(pool, setup, requests) == run(pool, Setup(model.directory, 1), requests)
