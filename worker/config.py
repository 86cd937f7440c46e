"""What the supervisor tells the processes it starts, as a file in its scratch directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
from pydantic import TypeAdapter

from neva.local_model import LocalModel

CONFIG_FILE = "worker.json"
DRAINING_FILE = "draining"
METRICS_FOLDER = "metrics"
CALIBRATION_FILE = "calibration.safetensors"
CALIBRATION_ERROR_FILE = "calibration.error"
_BUSY_SUFFIX = ".busy"
_CONSUMER_SUFFIX = "-consumer.alive"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """One worker.

    Attributes:
        worker_id: unique per start; stands in claims and logs.
        scratch_dir: private to this start: sockets, downloads, flags.
        pixels_dir: private to this start, in shared memory where there is some.
        supervisor_pid: whose processes die with it.
    """

    worker_id: str
    output_uri: str
    redis_url: str
    model: LocalModel
    max_attempts: int
    scratch_dir: Path
    pixels_dir: Path
    supervisor_pid: int

    @property
    def engine_socket(self) -> Path:
        return self.scratch_dir / "engine.sock"

    @property
    def engine_end_file(self) -> Path:
        """Why the last engine ended, in its own words, once one has."""
        return self.scratch_dir / "engine-end.txt"

    @property
    def calibration_file(self) -> Path:
        """What a quantized model is rounded by; there before engine and consumer start."""
        return self.scratch_dir / CALIBRATION_FILE

    @property
    def calibration_progress_file(self) -> Path:
        """Touched at each prompt that is read and at each layer that is calibrated."""
        return self.scratch_dir / "calibration.progress"

    @property
    def draining(self) -> bool:
        """The worker is about to stop: flush, release, take nothing new."""
        return (self.scratch_dir / DRAINING_FILE).exists()

    @property
    def busy_files(self) -> Iterator[Path]:
        """One a child that works on a shard; the name begins with its process id."""
        return self.scratch_dir.glob(f"*{_BUSY_SUFFIX}")

    @property
    def signs_of_life(self) -> Iterator[Path]:
        """Files that living processes touch, see `StalledChildren`."""
        yield from self.busy_files
        yield from self.scratch_dir.glob(f"*{_CONSUMER_SUFFIX}")

    @property
    def busy(self) -> bool:
        """Some child works on a shard."""
        return any(self.busy_files)

    @contextmanager
    def working_on(self, shard: int) -> Iterator[None]:
        """Be busy. The name begins with the process's id, so that a killed child's is swept."""
        path = self._busy_file(shard)
        path.touch()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def still_working_on(self, shard: int) -> None:
        """A sign of life: `StalledChildren` kills a process whose file nobody touches."""
        with suppress(FileNotFoundError):  # not there for who never was busy
            os.utime(self._busy_file(shard))

    def consuming(self) -> None:
        """The Celery parent's sign of life; the first before it takes its first message."""
        self._consumer_file(os.getpid()).touch()

    def has_consumed(self, pid: int) -> bool:
        """Whether this Celery parent has given a sign of life yet."""
        return self._consumer_file(pid).exists()

    def _consumer_file(self, pid: int) -> Path:
        return self.scratch_dir / f"{pid}{_CONSUMER_SUFFIX}"

    def _busy_file(self, shard: int) -> Path:
        return self.scratch_dir / f"{os.getpid()}-{shard}{_BUSY_SUFFIX}"

    def write(self) -> Path:
        path = self.scratch_dir / CONFIG_FILE
        path.write_bytes(orjson.dumps(self, default=str))
        return path


_config: TypeAdapter[WorkerConfig] = TypeAdapter(WorkerConfig)


def read_worker_config(path: Path) -> WorkerConfig:
    """What `WorkerConfig.write` wrote."""
    return _config.validate_json(path.read_bytes())
