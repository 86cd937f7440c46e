from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.local_model import LocalModel
from worker.config import WorkerConfig
from worker.stalled import StalledChildren


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    return WorkerConfig("me", "out", "", LocalModel(tmp_path), 3, tmp_path, tmp_path, 1)


def look_again(
    stalled: StalledChildren, clock: Clock, config: WorkerConfig, after_s: float
) -> None:
    clock.now_s += after_s
    stalled.kill(config.signs_of_life)


def test_a_stopped_child_is_killed_once_its_time_is_over(
    child: subprocess.Popen[bytes], config: WorkerConfig
) -> None:
    clock = Clock()
    stalled = StalledChildren(10, clock)
    os.kill(child.pid, signal.SIGSTOP)
    (config.scratch_dir / f"{child.pid}-7.busy").touch()
    for _ in range(3):
        look_again(stalled, clock, config, 5)
    assert child.poll() is None
    look_again(stalled, clock, config, 0.1)
    assert child.wait(30) == -signal.SIGKILL


def test_one_that_gives_signs_of_life_lives(
    child: subprocess.Popen[bytes], config: WorkerConfig
) -> None:
    clock = Clock()
    stalled = StalledChildren(10, clock)
    path = config.scratch_dir / f"{child.pid}-7.busy"
    for number in range(8):
        path.touch()
        os.utime(path, ns=(number, number))
        look_again(stalled, clock, config, 9)
    path.unlink()  # it has finished its shard, and waits for the next one
    look_again(stalled, clock, config, 100)
    path.touch()
    look_again(stalled, clock, config, 100)
    look_again(stalled, clock, config, 10)
    assert child.poll() is None


def test_work_on_a_shard_shows_in_its_file(config: WorkerConfig) -> None:
    config.still_working_on(3)  # nobody said so: nothing appears
    assert not config.busy
    with config.working_on(3):
        (path,) = config.busy_files
        assert path.name.startswith(f"{os.getpid()}-")
        os.utime(path, ns=(1, 1))
        config.still_working_on(3)
        assert path.stat().st_mtime_ns > 1
    assert not config.busy
