"""The supervisor's way to the run's calibration; the process itself is in the end-to-end tests."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from neva.errors import ConfigError, NevaError
from neva.ledger import Ledger
from neva.local_model import LocalModel
from tests.fakes.memory_store import MemoryStore
from worker.calibration_process import CalibrationProcess
from worker.config import CALIBRATION_ERROR_FILE, WorkerConfig


@pytest.fixture
def config(tmp_path: Path) -> WorkerConfig:
    return WorkerConfig("me", "out", "", LocalModel(tmp_path), 3, tmp_path, tmp_path, 1)


def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A program in the place of Python, which the process is started with."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def keep_until_done(process: CalibrationProcess) -> None:
    deadline_s = time.monotonic() + 60
    while not process.keep(Path("worker.json")):
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_what_the_ledger_has_is_taken_from_there(
    config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "exit 70")
    ledger = Ledger(MemoryStore())
    ledger.fix_calibration(b"found")
    assert CalibrationProcess(config, ledger, "cpu", 60).keep(Path("worker.json"))
    assert config.calibration_file.read_bytes() == b"found"


def test_else_a_process_finds_it(
    config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, f'echo "$@" > {config.calibration_file.name}')
    process = CalibrationProcess(config, Ledger(MemoryStore()), "cpu", 60)
    assert not process.keep(Path("worker.json"))
    keep_until_done(process)
    said = config.calibration_file.read_text().strip()
    assert said == "-m worker.calibration --config worker.json --device cpu"


def test_a_refusal_comes_in_the_processs_own_words(
    config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "InvalidCheckpoint: it is broken"
    stand_in(tmp_path, monkeypatch, f"echo -n '{words}' > {CALIBRATION_ERROR_FILE}; exit 64")
    with pytest.raises(ConfigError, match="it is broken") as refused:
        keep_until_done(CalibrationProcess(config, Ledger(MemoryStore()), "cpu", 60))
    assert refused.value.reason == "InvalidCheckpoint"


def test_one_that_dies_is_started_again_a_few_times(
    config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "echo . >> starts; exit 9")
    with pytest.raises(NevaError, match="exit code 9"):
        keep_until_done(CalibrationProcess(config, Ledger(MemoryStore()), "cpu", 60))
    assert (tmp_path / "starts").read_text().count(".") == 3


def test_one_that_gets_nowhere_is_killed_and_said_to(
    config: WorkerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, monkeypatch, "exec sleep 600")
    now_s = iter(range(0, 1_000_000, 100))
    process = CalibrationProcess(config, Ledger(MemoryStore()), "cpu", 250, lambda: next(now_s))
    with pytest.raises(NevaError, match="can't be calibrated: no progress for 300 s"):
        keep_until_done(process)
