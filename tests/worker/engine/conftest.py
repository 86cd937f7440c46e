from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.worker.engine.models import TinyLlava, make_llava, write_media
from tests.worker.engine.ranks import RankPool
from worker.engine.protocol import MediaRef


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two cores are shared by everything: the tests and the ranks they start use one each."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


@pytest.fixture(scope="session", params=[1, 2, 4], ids=lambda size: f"tp{size}")
def pool(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RankPool]:
    """Ranks of each tensor parallel size, one size after the other."""
    pool = RankPool(request.param, tmp_path_factory.mktemp("ranks"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def model(models_dir: Path) -> TinyLlava:
    """The model of tests that need just one."""
    return make_llava(models_dir / "common")


@pytest.fixture
def video(tmp_path: Path) -> MediaRef:
    """Random frames."""
    return write_media(tmp_path / "video", num_frames=3, seed=1)
