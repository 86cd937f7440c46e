"""The memory that is at hand for keys and values, and what one token of them takes."""

from __future__ import annotations

from pathlib import Path

import torch

from neva.errors import ConfigError
from neva.rank_split import split_over, stage_of
from worker.engine.architecture import LanguageShape
from worker.engine.distributed import Ranks, everyone_is_here, smallest

# What activations, the vision tower's and the allocator's gaps may take of what is free now.
_SHARE_FOR_CACHE = {"cuda": 0.85, "cpu": 0.5}
_CGROUP = Path("/sys/fs/cgroup")


def bytes_per_token(shape: LanguageShape, ranks: Ranks, dtype: torch.dtype) -> int:
    """Keys and values of one position in the layers of this rank."""
    kv_heads = split_over(shape, ranks.tensor_size).local_kv_heads
    layers = stage_of(shape.num_layers, ranks.stage, ranks.num_stages).layers
    return 2 * len(layers) * kv_heads * shape.head_dim * dtype.itemsize


def cache_tokens(
    shape: LanguageShape, dtype: torch.dtype, ranks: Ranks, kv_cache_bytes: int | None
) -> int:
    """How many tokens the KV cache may hold, equal on all ranks. Collective, once this rank has
    loaded what it holds.

    kv_cache_bytes: on each rank; None takes a share of what is free.

    Raises:
        ConfigError: not one token fits.
    """
    num_bytes = kv_cache_bytes
    if num_bytes is None:
        everyone_is_here(ranks)  # on one machine, what others still load is not free
        num_bytes = int(_free_bytes(ranks) * _SHARE_FOR_CACHE[ranks.device.type])
    token_bytes = bytes_per_token(shape, ranks, dtype)
    tokens = smallest(num_bytes // token_bytes, ranks)
    if tokens < 1:
        raise ConfigError(
            f"no memory for keys and values: {num_bytes} bytes are there, one token takes"
            f" {token_bytes}"
        )
    return tokens


def _free_bytes(ranks: Ranks) -> int:
    """Free memory for this rank; the ranks of a CPU engine share one machine's."""
    if ranks.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(ranks.device)
        return int(free)
    return min(available_bytes(Path("/proc/meminfo")), cgroup_bytes(_CGROUP)) // ranks.size


def available_bytes(meminfo: Path) -> int:
    """MemAvailable of the machine (proc(5)); 4 GiB where the system does not say."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return 4 << 30
    found = next(line for line in lines if line.startswith("MemAvailable:"))
    return int(found.split()[1]) * 1024


def cgroup_bytes(folder: Path) -> int:
    """What this container may still take (cgroup v2), or as good as unlimited.

    Cached files count as used, but give way when memory is asked for: without taking them out, a
    checkpoint that was just downloaded and read would leave no memory at all.
    """
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return 1 << 60
    if limit == "max":
        return 1 << 60
    cached = int(counts["active_file"]) + int(counts["inactive_file"])
    return max(0, int(limit) - max(0, used - cached))
