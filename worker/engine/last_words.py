"""What a process of the engine's says when an error ends it, and its exit code."""

from __future__ import annotations

import torch
import torch.distributed as dist

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from worker.engine.launch import EXIT_CONFIG, EXIT_INTERNAL, EXIT_PEER_LOST, RankError


def last_words(error: Exception) -> tuple[int, RankError]:
    """The exit code and one line for an error that nobody could handle."""
    if isinstance(error, NevaError):
        code = EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_INTERNAL
        return code, RankError(error.reason, error.message, error.retryable)
    text = f"{type(error).__name__}: {error}".splitlines()[0]
    if _is_out_of_memory(error):
        return EXIT_INTERNAL, RankError(Reason.OUT_OF_MEMORY, text, retryable=True)
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))
    ):
        message = f"another rank is gone ({text})"
        return EXIT_PEER_LOST, RankError(Reason.ENGINE_CRASHED, message, retryable=True)
    return EXIT_INTERNAL, RankError(Reason.ENGINE_CRASHED, text, retryable=True)


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch's allocator on the CPU raises a plain RuntimeError."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
