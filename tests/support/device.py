"""Where the engine's tests compute: NEVA_TEST_DEVICE, the CPU where it is not set."""

from __future__ import annotations

import os
from typing import cast

import pytest

from worker.engine.launch import DeviceKind

TEST_DEVICE = cast(DeviceKind, os.environ.get("NEVA_TEST_DEVICE", "cpu"))


def require_devices(num_ranks: int) -> None:
    """Skip what wants more ranks than there are GPUs; a CPU takes any number."""
    import torch

    if TEST_DEVICE == "cuda" and num_ranks > torch.cuda.device_count():
        pytest.skip(f"{num_ranks} ranks need a GPU each, {torch.cuda.device_count()} here")
