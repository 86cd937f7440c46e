"""Decoding processes as a Celery child sees them: each reads one media file at a time.

A file may crash its decoder, hang it or eat its memory. The process is then killed and another one
started for the next file: that costs the file's own rows, not the child, and no attempt of a shard.
The processes are plain ones, as Celery's children may have no multiprocessing children, and die
with the thread that started them.
"""

from __future__ import annotations

import os
import pickle
import queue
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from neva.errors import NevaError, RowError
from neva.media_rules import Decoder as DecoderName
from neva.reasons import Reason
from neva.store import StoreError
from worker.media import wire
from worker.media.ranged import Range

log = structlog.get_logger()

# A new process imports numpy, Pillow and FFmpeg first; a machine may be slow at that.
_START_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20
_LAST_BREATH_S: Final = 0.5
_REASONS: Final = {
    *(Reason.MEDIA_UNREADABLE, Reason.MEDIA_EMPTY, Reason.MEDIA_TOO_LARGE),
    Reason.WRONG_MEDIA_SHAPE,
}
# No credentials, no tokens: it needs to find Python and a place for temporary files.
Fetch = Callable[[Sequence[Range]], None]
_ENVIRONMENT: Final = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME"),
    *("VIRTUAL_ENV", "TMPDIR", "NEVA_LOG_LEVEL"),
)


class DecoderDied(Exception):
    """The process did not answer.

    Attributes:
        reason: MEDIA_TIMEOUT or DECODER_CRASHED.
        words: how it ended.
    """

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words


class DecoderProcess:
    """One decoding process. Not thread-safe, but for `kill`.

    Started by the first file, and again by the first one after its end.
    """

    def __init__(self, setup: wire.DecoderSetup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def ask(
        self, ask: wire.Ask, fetch: Fetch | None = None
    ) -> tuple[wire.Done | wire.Failed, bytes]:
        """Have a file read; the answer and the picture.

        Args:
            fetch: of a file that is given in pieces.

        Raises:
            DecoderDied: it crashed, or took too long and was killed.
            StoreError: `fetch` did.
            NevaError: no process can be started.
        """
        process = self._process or self._start()
        timeout_s = self._setup.limits.decode_timeout_s
        deadline_s = time.monotonic() + timeout_s
        try:
            _write(process, wire.pack(ask))
            while True:
                sizes = wire.unpack_sizes(_read(process, wire.HEADER.size, deadline_s))
                answer = wire.unpack_answer(_read(process, sizes.num_json_bytes, deadline_s))
                picture = _read(process, sizes.num_picture_bytes, deadline_s)
                if not isinstance(answer, wire.Need):
                    return answer, picture
                if fetch is None:
                    raise wire.BrokenMessage("it has the whole file")
                started_s = time.monotonic()
                fetch(answer.ranges)
                deadline_s += time.monotonic() - started_s  # no time of the decoder's
                _write(process, wire.pack(wire.Given()))
        except StoreError:
            self.kill()  # it waits in the middle of a file
            raise
        except TimeoutError:
            self.kill()
            raise DecoderDied(Reason.MEDIA_TIMEOUT, f"took more than {timeout_s:g} s") from None
        except (OSError, EOFError, wire.BrokenMessage):
            raise DecoderDied(Reason.DECODER_CRASHED, self._end()) from None

    def kill(self) -> None:
        """End the process, if there is one."""
        if (process := self._process) is not None:
            process.kill()
        self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.media.decoder_main", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            bufsize=0,
        )
        self._process = process
        try:
            _write(process, pickle.dumps(self._setup))
            _read(process, wire.HEADER.size, time.monotonic() + _START_S)  # "I am there"
        except (OSError, EOFError, TimeoutError) as error:
            words = self._end()
            raise NevaError(f"no decoding process can be started: it {words}") from error
        return process

    def _end(self) -> str:
        """Kill and forget it; how it ended, if it did so by itself."""
        process, self._process = self._process, None
        if process is None:
            return "was ended"
        with suppress(subprocess.TimeoutExpired):  # what broke off is about to be gone
            process.wait(_LAST_BREATH_S)
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


class Decoders:
    """A few decoding processes of one Celery child, taken by its threads in turn.

    Args:
        num_processes: files read at the same time.
    """

    def __init__(self, setup: wire.DecoderSetup, num_processes: int = 1) -> None:
        self._asks_again = setup.rules.decoder == "auto" and setup.rules.media_type == "video"
        self._first: DecoderName = setup.rules.decoder
        self._all = [DecoderProcess(setup) for _ in range(num_processes)]
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        for process in self._all:
            self._idle.put(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes that are there."""
        return [process.pid for process in self._all if process.pid is not None]

    def read(self, path: Path, pixels: Path, fetch: Fetch | None = None) -> tuple[wire.Done, bytes]:
        """Read a file into `pixels`, waiting for a process to be free.

        Args:
            fetch: puts bytes into their places at `path`, which is empty yet; None: it is whole.

        Returns:
            What it says of the file, and a picture of its frames (JPEG).

        Raises:
            RowError: the file is no usable media, or more than a decoder can bear.
        """
        with self._one() as process:
            ask = wire.Ask(
                path=str(path),
                pixels=str(pixels),
                decoder=self._first,
                in_pieces=fetch is not None,
            )
            try:
                answer, picture = process.ask(ask, fetch)
            except DecoderDied as died:
                answer, picture = self._after_death(process, ask, fetch, died)
        if isinstance(answer, wire.Failed):
            raise RowError(answer.message, reason=_known(answer.reason))
        return answer, picture

    def close(self) -> None:
        """End all processes."""
        for process in self._all:
            process.kill()

    def _after_death(
        self, process: DecoderProcess, ask: wire.Ask, fetch: Fetch | None, died: DecoderDied
    ) -> tuple[wire.Done | wire.Failed, bytes]:
        """The other decoder's answer, where there is one."""
        path = Path(ask.path)
        log.warning("decoder died", media=path.name, reason=died.reason, error=died.words)
        if not self._asks_again:
            raise _row_error(path, f"its decoder {died.words}", died.reason) from died
        try:
            answer, picture = process.ask(ask.model_copy(update={"decoder": "pyav"}), fetch)
        except DecoderDied as again:
            words = f"its decoder {died.words}, and PyAV alone {again.words}"
            raise _row_error(path, words, again.reason) from again
        if isinstance(answer, wire.Failed):
            words = f"{answer.message} (PyAV, after the decoder {died.words})"
            answer = answer.model_copy(update={"message": words})
        return answer, picture

    @contextmanager
    def _one(self) -> Iterator[DecoderProcess]:
        process = self._idle.get()
        try:
            yield process
        finally:
            self._idle.put(process)


def _row_error(path: Path, words: str, reason: Reason) -> RowError:
    return RowError(f"{path.name} can't be decoded: {words}", reason=reason)


def _known(reason: str) -> Reason:
    """The decoding process may say anything once a file has taken it over."""
    return Reason(reason) if reason in _REASONS else Reason.DECODER_CRASHED


def _write(process: subprocess.Popen[bytes], data: bytes) -> None:
    if process.stdin is None:
        raise BrokenPipeError
    left = memoryview(data)
    while left:
        left = left[process.stdin.write(left) :]


def _read(process: subprocess.Popen[bytes], num_bytes: int, deadline_s: float) -> bytes:
    """Raises TimeoutError or EOFError."""
    if process.stdout is None:
        raise EOFError
    data = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(data) < num_bytes:
            if not selector.select(max(0.0, deadline_s - time.monotonic())):
                raise TimeoutError
            piece = os.read(process.stdout.fileno(), min(num_bytes - len(data), _CHUNK_BYTES))
            if not piece:
                raise EOFError
            data += piece
    return bytes(data)
