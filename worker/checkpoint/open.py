"""Open a model of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from neva.local_model import LocalModel
from worker.checkpoint.base import Checkpoint
from worker.checkpoint.hf_llava import open_llava
from worker.checkpoint.nemo import open_nemo


@contextmanager
def open_checkpoint(model: LocalModel) -> Iterator[Checkpoint]:
    """The model's architecture and checked weights, for as long as the context lasts.

    Raises:
        ConfigError: INVALID_CHECKPOINT, UNSUPPORTED_MODEL or INVALID_CONFIG.
    """
    opened = open_nemo(model) if model.is_nemo else open_llava(model.path)
    with opened as checkpoint:
        yield checkpoint
