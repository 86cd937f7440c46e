"""Gets the run's calibration onto this machine: from the ledger, or by a process that finds it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from neva.errors import ConfigError, NevaError
from neva.ledger import Ledger
from neva.reasons import Reason
from worker.config import CALIBRATION_ERROR_FILE, WorkerConfig
from worker.engine.launch import EXIT_CONFIG, DeviceKind
from worker.stalled import UnchangedFiles

log = structlog.get_logger()

_MAX_FAILED_STARTS = 3


class CalibrationProcess:
    """Kept by the supervisor until `config.calibration_file` is there."""

    def __init__(
        self,
        config: WorkerConfig,
        ledger: Ledger,
        device: DeviceKind,
        limit_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """limit_s: longest time of one step: loading what there is, a prompt, a layer."""
        self._config = config
        self._ledger = ledger
        self._device = device
        self._process: subprocess.Popen[bytes] | None = None
        self._num_failed = 0
        self._limit_s = limit_s
        self._unchanged = UnchangedFiles(clock)

    def keep(self, config_file: Path) -> bool:
        """Go on; True once the calibration is there.

        Raises:
            ConfigError: the model or the prompts can't be calibrated.
            NevaError: the ledger can't be read, or the process fails again and again.
        """
        file = self._config.calibration_file
        if self._process is None:
            if not file.exists() and (known := self._ledger.read_calibration()) is not None:
                file.write_bytes(known)
            if file.exists():
                return True
            self._start(config_file)
            return False
        code = self._process.poll()
        if code is None:  # it is waited for even when it is done: it holds memory on the GPU
            self._end_if_stalled(self._process)
            return False
        self._process = None
        if file.exists():
            return True
        reason, words = self._last_words(code)
        if code == EXIT_CONFIG:
            raise ConfigError(words, reason=reason)
        self._num_failed += 1
        log.error("calibration failed", exit_code=code, error=words)
        if self._num_failed >= _MAX_FAILED_STARTS:
            raise NevaError(f"the quantization can't be calibrated: {words}", reason=reason)
        return False

    def end(self) -> None:
        """End the process if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _end_if_stalled(self, process: subprocess.Popen[bytes]) -> None:
        (still_s,) = self._unchanged.look([self._config.calibration_progress_file]).values()
        if still_s > self._limit_s:
            process.kill()
            words = f"{Reason.INTERNAL_ERROR}: no progress for {still_s:.0f} s"
            self._error_file.write_text(words, encoding="utf-8")

    @property
    def _error_file(self) -> Path:
        return self._config.scratch_dir / CALIBRATION_ERROR_FILE

    def _start(self, config_file: Path) -> None:
        self._config.calibration_progress_file.touch()
        command = [sys.executable, "-m", "worker.calibration", "--config", str(config_file)]
        self._process = subprocess.Popen(
            [*command, "--device", self._device], stdin=subprocess.DEVNULL
        )
        log.info("calibration started", pid=self._process.pid)

    def _last_words(self, code: int) -> tuple[Reason, str]:
        try:
            reason, _, words = self._error_file.read_text(encoding="utf-8").partition(": ")
            self._error_file.unlink()
            return Reason(reason), words
        except (OSError, ValueError):
            return Reason.INTERNAL_ERROR, f"its process ended with exit code {code}"
