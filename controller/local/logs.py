"""The log of a local run: what its workers wrote, in the cache of the machine that ran it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import orjson

from controller.status.facts import look
from controller.status.run_status import RunPhase, run_status
from neva.errors import ConfigError
from neva.ledger import Ledger, layout
from neva.ledger.control import Control
from neva.reasons import Reason
from neva.settings import settings
from neva.store import StoreUnavailable, open_store

_POLL_S = 0.5
_LOOK_S = 2.0
# Nobody writes the log any more, or it would be somebody else's to start it again.
_QUIET = (RunPhase.SUSPENDED, RunPhase.INTERRUPTED)


def log_file(run_id: str) -> Path:
    """Where the worker of a run logs on this machine."""
    return settings().cache_dir / "runs" / run_id / "worker.log"


def run_log(
    output: str, *, follow: bool, since_s: float | None = None, tail: int | None = None
) -> Iterator[str]:
    """The lines, without their ends.

    Args:
        follow: go on until the run has ended, or stopped.
        since_s: leave out what is older.
        tail: only the last lines of what there is at first.

    Raises:
        ConfigError: there is no run, or it left no log here.
        StoreError: the ledger can't be had.
    """
    ledger = Ledger(open_store(output))
    path = _find(ledger)
    with path.open("rb") as file:
        lines = _whole_lines(file)
        if since_s is not None:
            lines = _not_before(lines, datetime.now(UTC) - timedelta(seconds=since_s))
        yield from lines if tail is None else deque(lines, maxlen=tail)
        if follow:
            yield from _following(file, ledger)


def _find(ledger: Ledger) -> Path:
    manifest = ledger.read_manifest()
    if manifest is None:
        uri = ledger.store.uri_of(layout.MANIFEST)
        raise ConfigError(f"{uri} does not exist: no run there, or no worker yet")
    path = log_file(manifest.run_id)
    if path.exists():
        return path
    control = Control(ledger.store)
    number = control.look().num_runners
    where = f"; it ran as {control.runner(number).words}" if number else ""
    raise ConfigError(
        f"{path}: no log of this run on this machine{where}. Of a cluster's job: "
        "neva logs vnj/NAME -n NAMESPACE",
        reason=Reason.OBJECT_NOT_FOUND,
    )


def _whole_lines(file: IO[bytes]) -> Iterator[str]:
    """Lines up to the end; one that is not whole yet is left for the next time."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)
            return
        yield line.decode(errors="replace").rstrip("\r\n")


def _following(file: IO[bytes], ledger: Ledger) -> Iterator[str]:
    next_look_s = 0.0
    ended = False
    while True:
        yield from _whole_lines(file)
        if ended:
            return
        if time.monotonic() >= next_look_s:
            next_look_s = time.monotonic() + _LOOK_S
            try:
                phase = run_status(look(ledger)).phase
            except StoreUnavailable:
                continue
            ended = phase.is_final or phase in _QUIET
        if not ended:
            time.sleep(_POLL_S)


def _not_before(lines: Iterator[str], begin: datetime) -> Iterator[str]:
    """From the first line of that time on; a line without a time is of the one before it."""
    begun = False
    for line in lines:
        if not begun:
            written = _time_of(line)
            begun = written is not None and written >= begin
        if begun:
            yield line


def _time_of(line: str) -> datetime | None:
    """When a line was logged, by itself (`neva.logs`)."""
    try:
        return datetime.fromisoformat(orjson.loads(line)["timestamp"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None
