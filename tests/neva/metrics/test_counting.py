"""The sums of a process, and the files that it leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neva.metrics import of_workers
from neva.metrics.base import Exporter, Sample
from neva.metrics.counting import Counting, count_files, read_counts
from neva.metrics.export import PodSums, metrics_text

NAME = of_workers.ROWS_FAILED.name


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_nothing_is_written_without_a_folder() -> None:
    counting = Counting(None)
    counting.add(of_workers.ROWS_FAILED, ("MediaEmpty",), 2)
    counting.add(of_workers.ROWS_FAILED, ("MediaEmpty",), 1)
    counting.write()
    assert counting.sums() == {(NAME, ("MediaEmpty",)): 3}


def test_sums_are_written_whole_and_at_most_once_a_second(tmp_path: Path) -> None:
    clock = Clock()
    counting = Counting(tmp_path, clock)
    counting.add(of_workers.ROWS_FAILED, ("MediaEmpty",), 1)
    assert count_files(tmp_path) == []
    clock.now_s = 1.0
    counting.add(of_workers.ROWS_FAILED, ("OutOfMemory",), 1)
    clock.now_s = 1.5
    counting.add(of_workers.ROWS_FAILED, ("OutOfMemory",), 1)
    ((pid, path),) = count_files(tmp_path)
    assert pid == os.getpid()
    assert read_counts([path]) == {(NAME, ("MediaEmpty",)): 1, (NAME, ("OutOfMemory",)): 1}
    counting.write()
    assert read_counts([path])[NAME, ("OutOfMemory",)] == 2
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    counting = Counting(tmp_path / "gone", Clock())
    counting.add(of_workers.ROWS_FAILED, ("MediaEmpty",), 1)
    counting.write()
    counting.add(of_workers.ROWS_FAILED, ("MediaEmpty",), 1)
    counting.write()
    assert counting.sums() == {(NAME, ("MediaEmpty",)): 2}


_CHILD = """
import os, signal, sys
from neva.metrics import of_workers
from neva.metrics.counting import count, own_sums, write_counts

count(of_workers.ROWS_FAILED, "MediaEmpty")
if os.fork() == 0:
    assert own_sums() == {}, "a child counts for itself"
    count(of_workers.ROWS_FAILED, "MediaEmpty", by=10)
    write_counts()
    os.kill(os.getpid(), signal.SIGKILL)
os.wait()
write_counts()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_killed_processes_counted_stays_and_their_files_go(tmp_path: Path) -> None:
    environment = {**os.environ, "NEVA_METRICS_DIR": str(tmp_path)}
    sums = PodSums(tmp_path)
    for number in (1, 2):
        done = subprocess.run([sys.executable, "-c", _CHILD], env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
        for _ in range(2):
            total = {s.labels: s.value for s in sums() if s.metric is of_workers.ROWS_FAILED}
            assert total["MediaEmpty",] == 11 * number
        assert list(tmp_path.iterdir()) == []


def test_counters_of_known_series_begin_at_zero() -> None:
    samples = [
        Sample(of_workers.SHARDS, 2, ("lost",)),
        Sample(of_workers.ROWS_FAILED, 1, ('a "b"\n\\',)),
    ]
    lines = metrics_text(Exporter.WORKER, samples).splitlines()
    assert "# TYPE neva_shards_total counter" in lines
    assert 'neva_shards_total{outcome="lost"} 2.0' in lines
    assert 'neva_shards_total{outcome="committed"} 0.0' in lines
    assert "neva_rows_answered_total 0.0" in lines
    assert r'neva_rows_failed_total{reason="a \"b\"\n\\"} 1.0' in lines
    assert not [line for line in lines if line.startswith("neva_engine_active_rows")]
    assert not [line for line in lines if "neva_operator" in line or "_created" in line]


@pytest.mark.parametrize("exporter", list(Exporter))
def test_the_version_is_told_everywhere(exporter: Exporter) -> None:
    assert 'neva_build_info{version="' in metrics_text(exporter, [])
