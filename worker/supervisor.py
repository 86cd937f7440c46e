"""The first process of a worker: starts the engine's ranks and the Celery consumer, and keeps both.

A rank that dies takes the engine down; the supervisor starts a new one, and the children ask their
rows again. On SIGTERM it drains: no new shards, finished rows flushed, leases released, messages
back in the queue. Everything it started dies with it, however it dies.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from neva import process
from neva.errors import ConfigError, NevaError
from neva.language_sizes import read_language_sizes
from neva.ledger import Ledger
from neva.ledger.control import Control
from neva.local_model import LocalModel
from neva.logs import log_fields
from neva.metrics import of_workers
from neva.metrics.base import Exporter, Sample
from neva.metrics.counting import count
from neva.metrics.export import serving_metrics
from neva.model_files import fetch_model, find_model
from neva.process import is_alive, private_dir
from neva.quantization import require_modelopt, require_whole_groups
from neva.reasons import Reason
from neva.settings import settings
from neva.spec import JobSpec
from neva.store import open_store
from worker.calibration_process import CalibrationProcess
from worker.config import DRAINING_FILE, METRICS_FOLDER, WorkerConfig
from worker.consumer import read_run
from worker.engine.client import EngineClient, EngineLost
from worker.engine.launch import (
    EXIT_CONFIG,
    DeviceKind,
    EngineConfig,
    EngineProcesses,
    QuantizationConfig,
)
from worker.engine.watchdog import EngineWatchdog
from worker.engine_metrics import EngineSamples, ask_engine
from worker.lookout import Lookout
from worker.media.installed import require_decoder
from worker.stalled import StalledChildren
from worker.until_done import RunWatch, Verdict

log = structlog.get_logger()

_CHECK_INTERVAL_S = 0.2
# What dies so often before it did anything useful will not get better.
_MAX_FAILED_STARTS = 3
_CONSUMER_STEADY_S = 10.0
_CONSUMER_RESTART_PAUSE_S = 1.0
# Until its first sign of life. It may only be waiting for the broker: another waits as well as it.
_CONSUMER_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a job may change after its manifest was fixed, as answers don't depend on it."""

    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    max_attempts: int | None = None
    device: DeviceKind | None = None


class Ended(Enum):
    """Why a worker ended in order."""

    TOLD = "told to stop"
    DONE = "every shard is committed"
    IDLE = "every open shard is with another worker"
    STOPPED = "the run is suspended or cancelled"


_ENDED_BY = {
    Verdict.STAY: Ended.TOLD,
    Verdict.DONE: Ended.DONE,
    Verdict.IDLE: Ended.IDLE,
    Verdict.STOPPED: Ended.STOPPED,
}


class Supervisor:
    """One worker. `run` returns when it has drained.

    Args:
        until_done: end when there is nothing left to do, not only when told to.
    """

    def __init__(
        self, output_uri: str, redis_url: str, overrides: Overrides, *, until_done: bool = False
    ) -> None:
        manifest, spec = read_run(output_uri)
        log_fields(job=manifest.job["metadata"]["name"], run=manifest.run_id)
        self._control = Control(open_store(output_uri))
        self._watch = (
            RunWatch.connect(output_uri, redis_url, manifest, settings()) if until_done else None
        )
        require_decoder(spec.media.decoder)
        self._precision = spec.model.precision
        self._tensor_parallel_size = (
            overrides.tensor_parallel_size or spec.model.tensor_parallel_size
        )
        self._pipeline_parallel_size = (
            overrides.pipeline_parallel_size or spec.model.pipeline_parallel_size
        )
        self._device = overrides.device or settings().device
        self._scratch_dir = private_dir(settings().scratch_dir, process.WORKER_FOLDER)
        self._pixels_dir = _pixels_dir(self._scratch_dir)
        self._config = WorkerConfig(
            worker_id=f"{os.uname().nodename}-{uuid.uuid4().hex[:8]}",
            output_uri=output_uri,
            redis_url=redis_url,
            model=_model(spec, manifest.model_digest),
            max_attempts=overrides.max_attempts or spec.failure.max_attempts,
            scratch_dir=self._scratch_dir,
            pixels_dir=self._pixels_dir,
            supervisor_pid=os.getpid(),
        )
        self._engine_samples = EngineSamples(partial(ask_engine, self._config.engine_socket))
        self._quantization = spec.model.quantization
        self._calibration: CalibrationProcess | None = None
        if self._quantization.enable:
            require_modelopt(self._quantization)
            sizes = read_language_sizes(self._config.model)
            require_whole_groups(self._quantization, sizes, self._tensor_parallel_size)
            ledger = Ledger(open_store(output_uri))
            self._calibration = CalibrationProcess(
                self._config, ledger, self._device, settings().engine_start_s
            )
        self._stopping = False
        self._engine: EngineProcesses | None = None
        self._engine_started_s = 0.0
        self._engine_ready = False
        self._watchdog: EngineWatchdog | None = None
        self._num_failed_starts = 0
        self._consumer: subprocess.Popen[bytes] | None = None
        self._consumer_started_s = 0.0
        self._num_failed_consumers = 0
        self._stalled = StalledChildren(settings().stall_s)

    def run(self) -> Ended:
        """Work until SIGTERM or SIGINT, until done, or until the run is suspended or cancelled.

        Raises:
            ConfigError: the engine refuses the model or the configuration.
            NevaError: the engine can't be kept alive.
        """
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._request_stop)
        config_file = self._config.write()
        # Whatever a killed process leaves in its temporary directory goes with ours.
        os.environ["TMPDIR"] = str(self._scratch_dir)
        try:
            # Before a model is loaded for nothing.
            verdict = Verdict.STAY if self._control.look().order is None else Verdict.STOPPED
            metrics_dir = self._scratch_dir / METRICS_FOLDER
            with (
                serving_metrics(Exporter.WORKER, metrics_dir, self._samples),
                Lookout(self._control, self._watch, lambda: self._config.busy) as lookout,
            ):
                while not self._stopping and verdict is Verdict.STAY:
                    if self._calibration is None or self._calibration.keep(config_file):
                        self._keep_engine()
                        self._keep_consumer(config_file)
                    self._sweep()
                    self._stalled.kill(self._config.signs_of_life)
                    time.sleep(_CHECK_INTERVAL_S)
                    verdict = lookout.verdict
                self._drain()
        finally:
            self._end()
        return _ENDED_BY[verdict]

    def _request_stop(self, signum: int, frame: Any) -> None:
        self._stopping = True

    def _samples(self) -> Iterator[Sample]:
        """Called by the threads that serve the metrics."""
        yield Sample(of_workers.SHARDS_IN_WORK, len(list(self._config.busy_files)))
        yield from self._engine_samples()

    def _keep_engine(self) -> None:
        if self._engine is None:
            count(of_workers.ENGINE_STARTS)
            self._engine = EngineProcesses.start(self._engine_config())
            self._engine_started_s, self._engine_ready = time.monotonic(), False
            log.info("engine started", pids=self._engine.pids)
        dead = self._engine.poll()
        if dead is None:
            self._watch_start()
            self._watch_progress(self._engine)
            return
        self._forget_watchdog()
        words = self._engine.last_words(dead)
        log.error("engine died", rank=dead.rank, exit_code=dead.exit_code, error=words.message)
        count(of_workers.ENGINE_DEATHS, words.reason)
        self._config.engine_end_file.write_text(words.message, encoding="utf-8")
        self._engine.terminate()
        self._engine = None
        if dead.exit_code == EXIT_CONFIG:
            raise ConfigError(words.message, reason=words.reason)
        if not self._engine_ready:
            self._num_failed_starts += 1
            if self._num_failed_starts >= _MAX_FAILED_STARTS:
                # Another start of the whole worker would load the model as often again.
                raise ConfigError(
                    f"the engine does not start: {words.message}", reason=words.reason
                )

    def _watch_start(self) -> None:
        if self._engine_ready or self._engine is None:
            return
        client = EngineClient(self._config.engine_socket)
        try:
            self._engine_ready = client.status(0.1).generation == self._engine.generation
        except EngineLost as error:
            if time.monotonic() - self._engine_started_s > settings().engine_start_s:
                words = f"the engine was not ready within {settings().engine_start_s:g} s"
                raise NevaError(words, reason=error.reason) from error
        finally:
            client.close()
        if self._engine_ready:
            self._num_failed_starts = 0
            took_s = round(time.monotonic() - self._engine_started_s, 1)
            log.info("engine ready", seconds=took_s)

    def _watch_progress(self, engine: EngineProcesses) -> None:
        """End an engine that hangs; the next turn starts another, and its rows are asked again."""
        if not self._engine_ready:
            return
        if self._watchdog is None:
            self._watchdog = EngineWatchdog.connect(
                self._config.engine_socket, engine.generation, settings().engine_hang_s
            )
        problem = self._watchdog.check()
        if problem is not None:
            log.error("engine hangs", error=problem)
            count(of_workers.ENGINE_DEATHS, Reason.ENGINE_CRASHED)
            self._config.engine_end_file.write_text(problem, encoding="utf-8")
            self._forget_watchdog()
            engine.kill()
            self._engine = None

    def _forget_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.close()
            self._watchdog = None

    def _engine_config(self) -> EngineConfig:
        return EngineConfig(
            model_dir=self._config.model.path,
            base_model=self._config.model.base,
            vision_encoder=self._config.model.vision,
            tensor_parallel_size=self._tensor_parallel_size,
            pipeline_parallel_size=self._pipeline_parallel_size,
            precision=self._precision,
            socket_path=self._config.engine_socket,
            scratch_dir=self._scratch_dir / "engine",
            max_batch_rows=settings().max_batch_rows,
            device=self._device,
            kv_cache_bytes=settings().kv_cache_bytes,
            quantization=self._quantization_config(),
        )

    def _quantization_config(self) -> QuantizationConfig | None:
        asked = self._quantization
        if not asked.enable:
            return None
        return QuantizationConfig(asked.algorithm, asked.group_size, self._config.calibration_file)

    def _keep_consumer(self, config_file: Path) -> None:
        if self._consumer is not None:
            code = self._consumer.poll()
            if code is None:
                self._watch_consumer_start(self._consumer)
                return
            log.error("consumer died", exit_code=code)
            steady = time.monotonic() - self._consumer_started_s > _CONSUMER_STEADY_S
            self._num_failed_consumers = 0 if steady else self._num_failed_consumers + 1
            if self._num_failed_consumers >= _MAX_FAILED_STARTS:
                raise NevaError(
                    f"the Celery worker does not start (exit code {code}); its log says why",
                    reason=Reason.WORKER_CRASHED,
                )
            time.sleep(_CONSUMER_RESTART_PAUSE_S)
        command = [sys.executable, "-m", "worker.consumer", str(config_file)]
        count(of_workers.CONSUMER_STARTS)
        self._consumer = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        self._consumer_started_s = time.monotonic()
        log.info("consumer started", pid=self._consumer.pid)

    def _watch_consumer_start(self, consumer: subprocess.Popen[bytes]) -> None:
        """Kill one that was stopped, or got stuck, before `StalledChildren` can know of it."""
        took_s = time.monotonic() - self._consumer_started_s
        if took_s > _CONSUMER_START_S and not self._config.has_consumed(consumer.pid):
            log.error("consumer is not ready, killing it", pid=consumer.pid, seconds=took_s)
            consumer.kill()

    def _sweep(self) -> None:
        """Delete pixels and downloads that children left behind when they were killed."""
        for folder in (self._pixels_dir, self._scratch_dir):
            for path in folder.iterdir():
                owner = path.name.partition("-")[0]
                if owner.isdecimal() and not is_alive(int(owner)):
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)

    def _drain(self) -> None:
        """Stop the consumer in order, within the drain time."""
        if self._consumer is None or self._consumer.poll() is not None:
            return
        self._consumer.terminate()  # takes no new messages; waits for the children
        (self._scratch_dir / DRAINING_FILE).touch()  # the children flush and stop
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._consumer.wait(settings().drain_s)
            return
        log.error("drain took too long", seconds=settings().drain_s)

    def _end(self) -> None:
        if self._consumer is not None and self._consumer.poll() is None:
            self._consumer.kill()
            self._consumer.wait()
        self._forget_watchdog()
        if self._calibration is not None:
            self._calibration.end()
        if self._engine is not None:
            self._engine.terminate()
        for folder in {self._pixels_dir, self._scratch_dir}:
            shutil.rmtree(folder, ignore_errors=True)


def _model(spec: JobSpec, expected_digest: str) -> LocalModel:
    parts = find_model(spec.model)
    if parts.digest != expected_digest:
        raise ConfigError(f"{spec.model.uri}: the model was changed after the job had started")
    return fetch_model(parts, settings().cache_dir)


def _pixels_dir(scratch_dir: Path) -> Path:
    """In shared memory where the system has some; on disk elsewhere, which is as right."""
    if os.access(process.SHARED_MEMORY, os.W_OK):
        return private_dir(process.SHARED_MEMORY, process.WORKER_FOLDER)
    return scratch_dir
