from __future__ import annotations

import pytest
import torch

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from worker.engine.last_words import last_words
from worker.engine.launch import EXIT_CONFIG, EXIT_INTERNAL, EXIT_PEER_LOST


def allocate_too_much() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(1 << 50)
    return raised.value


@pytest.mark.parametrize(
    ("error", "code", "reason", "retryable"),
    [
        (ConfigError("no"), EXIT_CONFIG, Reason.INVALID_CONFIG, False),
        (NevaError("no", retryable=True), EXIT_INTERNAL, Reason.INTERNAL_ERROR, True),
        (allocate_too_much(), EXIT_INTERNAL, Reason.OUT_OF_MEMORY, True),
        (torch.OutOfMemoryError("CUDA out of memory.\nMore"), EXIT_INTERNAL, "OutOfMemory", True),
        (MemoryError(), EXIT_INTERNAL, Reason.OUT_OF_MEMORY, True),
        (RuntimeError("gloo: closed"), EXIT_PEER_LOST, Reason.ENGINE_CRASHED, True),
        (RuntimeError("a bug"), EXIT_INTERNAL, Reason.ENGINE_CRASHED, True),
    ],
)
def test_what_ends_a_process_is_told_apart_in_one_line(
    error: Exception, code: int, reason: str, retryable: bool
) -> None:
    found, words = last_words(error)
    assert (found, words.reason, words.retryable) == (code, reason, retryable)
    assert words.message
    assert "\n" not in words.message
