"""One container as a local process: started, told to stop, killed, and what it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

_MESSAGE_BYTES = 4096
_FALLBACK_BYTES = 2048
_FALLBACK_LINES = 80


class ContainerProcess:
    """A running container: a process group of its own, its log a file.

    Args:
        log: where stdout and stderr go.
        message: file that the process may leave its termination message in.
    """

    def __init__(
        self, command: list[str], environment: dict[str, str], log: Path, message: Path
    ) -> None:
        self._log = log
        self._message = message
        message.write_bytes(b"")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._kill_at_s: float | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """As a container's: 128 + signal for one that was killed; None while it runs."""
        code = self._process.poll()
        if code is None:
            if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
                self.kill()
            return None
        self._kill_group()  # a container's other processes end with its first
        return 128 - code if code < 0 else code

    def stop(self, grace_s: float) -> None:
        """SIGTERM to the first process now, SIGKILL to all when the grace is over."""
        kill_at_s = time.monotonic() + grace_s
        if self._kill_at_s is None:
            self._process.terminate()
            self._kill_at_s = kill_at_s
        self._kill_at_s = min(self._kill_at_s, kill_at_s)

    def kill(self) -> None:
        """SIGKILL to all of it."""
        self._kill_group()
        self._process.wait()

    def message(self, falls_back_to_log: bool) -> str:
        """What it left in its termination message; else, if wanted, the end of a failure's log."""
        content = self._message.read_bytes()[:_MESSAGE_BYTES]
        if not content and falls_back_to_log and self._process.returncode:
            lines = self._log.read_bytes().splitlines(keepends=True)[-_FALLBACK_LINES:]
            content = b"".join(lines)[-_FALLBACK_BYTES:]
        return content.decode(errors="replace")

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
