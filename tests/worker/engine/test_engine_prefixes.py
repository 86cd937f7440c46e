from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.request_examples import media_request, text_request
from worker.engine.prefixes import Prefix, PrefixKey, PrefixTable, prefix_of


def test_questions_about_one_video_share_what_stands_before_them() -> None:
    first, second = (media_request(name, "video", num_after=n) for name, n in (("a", 3), ("b", 7)))
    key = prefix_of(first, 512)
    assert key is not None
    assert key == prefix_of(second, 512)
    assert key.num_tokens == len(first.before_ids) + first.num_media_tokens
    assert key != prefix_of(media_request("a", "other video"), 512)
    assert key != prefix_of(replace(first, before_ids=(9,)), 512)


@given(
    num_before=st.integers(0, 6),
    num_media=st.integers(0, 9),
    num_after=st.integers(0, 30),
    max_own=st.integers(1, 12),
)
def test_the_own_part_is_never_empty_and_never_too_long(
    num_before: int, num_media: int, num_after: int, max_own: int
) -> None:
    if not num_before + num_after:
        return  # admission refuses a prompt of nothing but media
    request = replace(
        media_request("a", "video", num_media_tokens=num_media, num_after=num_after),
        before_ids=tuple(range(num_before)),
    )
    if not num_media:
        request = replace(request, media=None)
    key = prefix_of(request, max_own)
    num_prefix = key.num_tokens if key is not None else 0
    assert 1 <= request.num_prompt_tokens - num_prefix <= max(1, max_own)
    if key is None:
        assert request.media is None
        return
    ids = (*request.before_ids, *request.after_ids)
    assert key.ids == ids[: len(key.ids)]
    assert (key.media_key is None) == (request.media is None)


def test_text_has_a_prefix_only_where_it_is_too_long_for_one_piece() -> None:
    assert prefix_of(text_request(num_prompt_tokens=8), 8) is None
    key = prefix_of(text_request(num_prompt_tokens=9), 8)
    assert key == PrefixKey(None, 0, (5,), 1)


def acquire(table: PrefixTable, name: str) -> Prefix:
    request = media_request("q", name)
    key = prefix_of(request, 512)
    assert key is not None
    prefix = table.acquire(key, request)
    prefix.num_computed = prefix.num_tokens
    return prefix


def test_a_finished_prefix_stays_for_the_next_question_until_too_many_are_unused() -> None:
    table = PrefixTable(max_unused=2)
    prefixes = [acquire(table, name) for name in "abc"]
    assert acquire(table, "a") is prefixes[0]
    table.release(prefixes[0])
    assert table.num_used == 3  # a has another user
    for prefix in prefixes:
        table.release(prefix)
    assert table.num_used == 0
    assert table.find(prefixes[0].key) is None
    assert table.find(prefixes[1].key) is prefixes[1]
    assert acquire(table, "b") is prefixes[1]


def test_an_unfinished_or_broken_prefix_is_gone_with_its_last_user() -> None:
    table = PrefixTable()
    unfinished, broken = acquire(table, "a"), acquire(table, "b")
    unfinished.num_computed = 3
    table.release(unfinished)
    table.forget(broken)
    assert table.find(broken.key) is None
    fresh = acquire(table, "b")
    assert fresh is not broken
    table.release(broken)
    assert table.find(fresh.key) is fresh
    assert table.find(unfinished.key) is None


def test_prefixes_in_use_are_brought_together_when_half_of_the_slots_between_are_not() -> None:
    table = PrefixTable()
    prefixes = [acquire(table, name) for name in "abcdef"]
    for prefix in prefixes[:3]:
        table.release(prefix)
    table.compact()
    assert not table.swaps  # three of six
    table.release(prefixes[3])
    table.compact()
    assert [(swap.one, swap.other) for swap in table.swaps] == [(5, 0), (4, 1)]
    assert (prefixes[5].slot, prefixes[4].slot) == (0, 1)
    assert (prefixes[0].slot, prefixes[1].slot) == (5, 4)
