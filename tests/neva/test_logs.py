"""What a log line says, and how."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

CODE = """
import logging, threading
from contextvars import copy_context
import structlog
from neva.logs import configure_logging, log_fields

configure_logging()
log_fields(job="kitchen", run="r1")
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(shard=3, attempt=1):
    with structlog.contextvars.bound_contextvars(row="17"):
        log.warning("row failed", reason="MediaEmpty")
    thread = threading.Thread(target=copy_context().run, args=(lambda: log.info("beat"),))
    thread.start()
    thread.join()
    logging.getLogger("some.library").warning("foreign %s", "words")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed", job="other")
"""


def run(**environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stderr


def test_a_line_is_json_with_job_shard_attempt_and_row() -> None:
    failed, beat, foreign, error = map(json.loads, run().splitlines())
    everywhere = {"job": "kitchen", "run": "r1"}
    shard = {**everywhere, "shard": 3, "attempt": 1}
    assert failed.items() >= {**shard, "row": "17", "reason": "MediaEmpty"}.items()
    assert (failed["event"], failed["level"]) == ("row failed", "warning")
    assert failed["timestamp"].endswith("Z")
    assert beat.items() >= shard.items() and "row" not in beat
    assert foreign.items() >= {**shard, "event": "foreign words", "level": "warning"}.items()
    assert error["job"] == "other", "what is logged here wins"
    assert "ZeroDivisionError" in error["exception"]
    assert "shard" not in error


def test_the_format_can_be_chosen() -> None:
    lines = run(NEVA_LOG_FORMAT="console", NO_COLOR="1").splitlines()
    assert "row failed" in lines[0] and "shard=3" in lines[0]
    assert not lines[0].startswith("{")


def test_a_terminal_gets_lines_for_people() -> None:
    ours, its = pty.openpty()
    try:
        subprocess.run([sys.executable, "-c", CODE], stderr=its, check=True)
        os.close(its)
        text = b""
        while chunk := _read(ours):
            text += chunk
    finally:
        os.close(ours)
    assert b"row failed" in text and not text.startswith(b"{")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the other side is closed and everything is read
        return b""
