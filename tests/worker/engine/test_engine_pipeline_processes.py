"""Pipeline stages as the supervisor meets them: ranks that die or stop."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from neva.errors import ConfigError
from tests.worker.engine.models import TinyLlava, make_request, reference_answer, write_media
from tests.worker.engine.test_engine_processes import (
    LONG,
    PATIENCE_S,
    collect,
    config_for,
    is_running,
    wait_until,
)
from worker.engine.client import EngineClient, EngineLost
from worker.engine.launch import DeadRank, EngineConfig, EngineProcesses
from worker.engine.protocol import GenerateResult
from worker.engine.watchdog import EngineWatchdog


def staged(model_dir: Path, directory: Path, tensor_size: int, num_stages: int) -> EngineConfig:
    config = config_for(model_dir, directory, num_ranks=tensor_size)
    return replace(config, pipeline_parallel_size=num_stages)


@pytest.mark.parametrize(
    ("tensor_size", "num_stages", "victim", "at_work"),
    [(1, 2, 1, True), (2, 2, 3, True), (1, 3, 1, False)],
)
def test_a_killed_rank_of_a_later_stage_takes_the_engine_down(
    model: TinyLlava, tmp_path: Path, tensor_size: int, num_stages: int, victim: int, at_work: bool
) -> None:
    config = staged(model.directory, tmp_path, tensor_size, num_stages)
    engine = EngineProcesses.start(config)
    client = EngineClient(config.socket_path)
    try:
        engine.wait_ready(PATIENCE_S)
        assert len(engine.pids) == tensor_size * num_stages
        status = client.status(5)
        sizes = (status.tensor_parallel_size, status.pipeline_parallel_size)
        assert sizes == (tensor_size, num_stages)
        media = write_media(tmp_path / "video", num_frames=2, seed=1)
        request = make_request("answered", 6, media=media)
        client.submit(request)
        outcome = collect(client, 1)["answered"]
        assert isinstance(outcome, GenerateResult)
        assert outcome.token_ids == reference_answer(model, request)[1]
        if at_work:
            client.submit(make_request("lost", 5, sampling=LONG))
            wait_until(lambda: client.status(5).num_active == 1, "the row was not started")
        os.kill(engine.pids[victim], signal.SIGKILL)
        if at_work:
            with pytest.raises(EngineLost):
                collect(client, 1)
        wait_until(lambda: not any(map(is_running, engine.pids)), "a rank outlived the other")
        assert engine.poll() == DeadRank(victim, -signal.SIGKILL)
        log = (tmp_path / "engine.log").read_text()
        for rank in range(len(engine.pids)):
            gone = f"engine rank {rank}: EngineCrashed: another rank is gone"
            assert (gone in log) == (rank != victim), log
        assert "Traceback" not in log
    finally:
        client.close()
        engine.terminate()


def test_a_stopped_rank_of_the_last_stage_is_noticed(model: TinyLlava, tmp_path: Path) -> None:
    config = staged(model.directory, tmp_path, 1, 2)
    engine = EngineProcesses.start(config)
    client = EngineClient(config.socket_path)
    try:
        engine.wait_ready(PATIENCE_S)
        watchdog = EngineWatchdog.connect(config.socket_path, engine.generation, limit_s=2.0)
        assert watchdog.check() is None
        client.submit(make_request("lost", 5, sampling=LONG))
        wait_until(lambda: client.status(5).num_active == 1, "the row was not started")
        os.kill(engine.pids[1], signal.SIGSTOP)
        problems: list[str | None] = []
        wait_until(lambda: problems.append(watchdog.check()) or problems[-1], "no hang noticed")
        assert "no progress for" in str(problems[-1])
        assert engine.poll() is None
        watchdog.close()
    finally:
        client.close()
        engine.kill()
    assert not any(map(is_running, engine.pids))


def test_a_pipeline_of_no_stages_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pipeline parallel size 0"):
        EngineProcesses.start(staged(tmp_path, tmp_path, 1, 0))
