from __future__ import annotations

import pytest
import torch

from worker.engine.feature_cache import FeatureCache
from worker.engine.kv_cache import SlotKVCache


def features(num_embeddings: int) -> torch.Tensor:
    return torch.zeros(num_embeddings, 4)


def test_the_least_recently_used_video_leaves_first() -> None:
    cache = FeatureCache(max_embeddings=30)
    for key in "abc":
        cache.put(key, features(10))
    assert cache.get("a") is not None
    cache.put("d", features(10))
    assert [key for key in "abcd" if cache.get(key) is not None] == ["a", "c", "d"]
    assert cache.num_embeddings == 30


def test_a_video_larger_than_the_cache_is_not_kept_and_evicts_nothing() -> None:
    cache = FeatureCache(max_embeddings=30)
    cache.put("small", features(30))
    cache.put("large", features(31))
    assert cache.get("large") is None
    assert cache.get("small") is not None


def make_kv_cache(max_rows: int = 5) -> SlotKVCache:
    return SlotKVCache(
        num_layers=2,
        num_kv_heads=3,
        head_dim=4,
        max_rows=max_rows,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def test_what_is_stored_survives_growth_and_moves() -> None:
    cache = make_kv_cache()
    assert cache.num_bytes == 0
    cache.reserve(1, 10)
    keys = torch.randn(1, 3, 7, 4)
    cache.write_prompt(1, 0, keys, -keys)
    cache.reserve(4, 200)
    cache.move(source=0, target=3, num_tokens=7)
    new_keys = torch.randn(4, 3, 4)
    seen_keys, seen_values = cache.append_token(
        1, torch.tensor([0, 0, 0, 7]), new_keys, -new_keys, num_tokens=8
    )
    assert torch.equal(seen_keys[3, :, :7], keys[0])
    assert torch.equal(seen_keys[3, :, 7], new_keys[3])
    assert torch.equal(seen_values, -seen_keys)


def test_memory_is_bounded_by_rows_and_by_the_longest_need() -> None:
    cache = make_kv_cache(max_rows=5)
    for rows, tokens in ((1, 3), (2, 100), (3, 130), (5, 20)):
        cache.reserve(rows, tokens)
    assert (cache.num_slots, cache.num_tokens) == (5, 256)
    before = cache.num_bytes
    cache.reserve(2, 256)
    assert cache.num_bytes == before == 2 * 2 * 5 * 3 * 256 * 4 * 4
    with pytest.raises(ValueError, match="6 slots"):
        cache.reserve(6, 1)


def test_a_cleared_slot_hides_what_was_not_finite() -> None:
    cache = make_kv_cache()
    cache.reserve(2, 8)
    cache.write_prompt(0, 0, torch.full((2, 3, 8, 4), torch.nan), torch.full((2, 3, 8, 4), 1.0))
    cache.clear(1)
    keys, values = cache.append_token(
        0, torch.tensor([0, 0]), torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), num_tokens=8
    )
    assert keys[0].isnan().any()
    assert not keys[1].any()
    assert not values[1].any()
