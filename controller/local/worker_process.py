"""The worker of a local run, as a process that dies with the runner."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from controller.exits import EXIT_STOPPED, EXIT_WORKER_CONFIG
from neva.errors import ConfigError, NevaError
from neva.pod import read_last_words
from neva.reasons import Reason
from neva.tethered import tethered

_MAX_DEATHS_WITHOUT_PROGRESS = 5
STOP_GRACE_S = 40.0  # longer than the worker's own drain time


class LocalWorker:
    """Keeps one worker running.

    Attributes:
        module: the worker's program; tests put another one here.

    Args:
        arguments: of `neva worker`, beside the output.
        log_path: where the worker's logs go.
    """

    module: ClassVar[str] = "worker"

    def __init__(
        self, output_uri: str, redis_url: str, arguments: Sequence[str], log_path: Path
    ) -> None:
        self._arguments = list(arguments)
        self._output_uri = output_uri
        self._redis_url = redis_url
        self._log_path = log_path
        self._last_words = log_path.with_name("worker-exit.txt")
        self._process: subprocess.Popen[bytes] | None = None
        self._num_deaths = 0
        self._num_done = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def keep(self, num_done: int) -> None:
        """Start the worker, or start it again if it died.

        Args:
            num_done: rows done so far; a worker that dies after some progress is forgiven.

        Raises:
            ConfigError: it refuses the job, in its own words.
            NevaError: it dies again and again.
        """
        if self._process is not None:
            code = self._process.poll()
            if code is None or code == EXIT_STOPPED:  # the runner will see the order, too
                return
            reason, words = self._words()
            if code == EXIT_WORKER_CONFIG:
                raise ConfigError(words or "the worker refuses the job", reason=reason)
            self._num_deaths = 1 if num_done > self._num_done else self._num_deaths + 1
            self._num_done = num_done
            if self._num_deaths >= _MAX_DEATHS_WITHOUT_PROGRESS:
                raise NevaError(
                    f"the worker died {self._num_deaths} times without answering a row"
                    f"{': ' + words if words else ''}; its log: {self._log_path}",
                    reason=Reason.WORKER_CRASHED,
                )
        self._last_words.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "NEVA_REDIS_URL": self._redis_url,
            "NEVA_TERMINATION_LOG": str(self._last_words),
        }
        command = tethered([sys.executable, "-m", self.module])
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--output", self._output_uri, *self._arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is the runner's; it drains the worker in order
            )

    def stop(self) -> None:
        """Drain and end the worker."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _words(self) -> tuple[Reason, str]:
        """What the worker said at its end: `reason: message`."""
        try:
            reason, words = read_last_words(self._last_words.read_text(encoding="utf-8"))
        except OSError:
            return Reason.WORKER_CRASHED, ""
        return reason or Reason.WORKER_CRASHED, words
