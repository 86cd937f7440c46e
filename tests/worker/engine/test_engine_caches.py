from __future__ import annotations

from pathlib import Path

import pytest
import torch

from worker.engine.cache_budget import CacheNeed
from worker.engine.feature_cache import FeatureCache
from worker.engine.kv_cache import KVCache, SlotPool, slots_of
from worker.engine.memory import available_bytes, cgroup_bytes


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


def make_pool() -> SlotPool:
    return SlotPool(
        num_layers=2, num_kv_heads=3, head_dim=4, dtype=torch.float32, device=torch.device("cpu")
    )


def test_what_is_stored_survives_resizing_moves_and_swaps() -> None:
    pool = make_pool()
    assert pool.num_bytes == 0
    pool.resize(1, 10)
    keys = torch.randn(1, 3, 7, 4)
    pool.write(1, slice(0, 1), 0, keys[:, :, :5], -keys[:, :, :5])
    pool.write(1, slice(0, 1), 5, keys[:, :, 5:], -keys[:, :, 5:])
    pool.resize(4, 200)
    pool.move(source=0, target=3, num_tokens=7)
    pool.clear(0)
    pool.swap(3, 1, num_tokens=7)
    pool.resize(2, 64)
    new_keys = torch.randn(2, 3, 4)
    pool.append(1, torch.tensor([0, 1]), torch.tensor([0, 7]), new_keys, -new_keys)
    seen_keys, seen_values = pool.read(1, slice(0, 2), 8)
    assert torch.equal(seen_keys[1, :, :7], keys[0])
    assert torch.equal(seen_keys[1, :, 7], new_keys[1])
    assert torch.equal(seen_keys[0, :, 0], new_keys[0])
    assert not seen_keys[0, :, 1:].any()
    assert torch.equal(seen_values, -seen_keys)
    assert pool.num_bytes == 2 * 2 * 2 * 3 * 64 * 4 * 4


def test_pools_grow_ahead_of_need_while_both_fit_and_are_cut_to_the_need_when_not() -> None:
    cache = KVCache(make_pool(), make_pool(), max_tokens=1000)
    cache.reserve(CacheNeed(1, 128, 2, 64))
    cache.reserve(CacheNeed(1, 128, 3, 64))
    assert (cache.rows.num_slots, cache.rows.num_tokens) == (4, 64)
    cache.reserve(CacheNeed(0, 0, 2, 64))  # nothing shrinks for nothing
    assert (cache.prefixes.num_slots, cache.rows.num_slots) == (1, 4)
    cache.reserve(CacheNeed(1, 640, 5, 64))
    assert (cache.prefixes.num_tokens, cache.rows.num_slots) == (640, 5)
    with pytest.raises(ValueError, match="1001 cached tokens"):
        cache.reserve(CacheNeed(1, 1000, 1, 1))


def test_a_cleared_slot_hides_what_was_not_finite() -> None:
    pool = make_pool()
    pool.resize(2, 8)
    pool.write(0, slice(0, 2), 0, torch.full((2, 3, 8, 4), torch.nan), torch.ones(2, 3, 8, 4))
    pool.clear(1)
    keys, values = pool.read(0, slice(0, 2), 8)
    assert keys[0].isnan().all()
    assert not keys[1].any()
    assert not values[1].any()


def test_neighbouring_slots_are_read_without_a_copy() -> None:
    assert slots_of([2, 3, 4], torch.device("cpu")) == slice(2, 5)
    index = slots_of([2, 4], torch.device("cpu"))
    assert isinstance(index, torch.Tensor)
    assert index.tolist() == [2, 4]


# ---- the memory at hand ----


def test_free_memory_is_read_from_the_machine_and_the_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:  2048 kB\n")
    assert available_bytes(meminfo) == 2 << 20
    (tmp_path / "memory.current").write_text("1500\n")
    # What the kernel keeps of files it gives back when asked; shared memory it does not.
    stat = "anon 400\nfile 1000\nshmem 500\ninactive_file 300\nactive_file 200\n"
    (tmp_path / "memory.stat").write_text(stat)
    for limit, expected in (("5000", 4000), ("500", 0), ("max", 1 << 60)):
        (tmp_path / "memory.max").write_text(limit + "\n")
        assert cgroup_bytes(tmp_path) == expected
    assert cgroup_bytes(tmp_path / "no cgroup") == 1 << 60
