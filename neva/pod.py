"""What a pod of a job is told, and what it says at its end.

Callers: the commands that a cluster starts (`prepare`, `worker`, `finish`), and the controller, who
reads the last words back. The job comes as JSON in NEVA_JOB, because a pod may not read custom
resources; the last words are the container's termination message, `REASON: message`.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import orjson

from neva.errors import ConfigError
from neva.job_file import parse_job
from neva.reasons import Reason
from neva.settings import settings
from neva.spec import VideoNevaJob

TERMINATION_LOG = Path("/dev/termination-log")
# Kubernetes cuts a termination message at 4096 bytes.
_MAX_WORDS_BYTES = 4000


def job_of_environment() -> VideoNevaJob:
    """The job in NEVA_JOB.

    Raises:
        ConfigError: there is none, or it is no valid job.
    """
    text = settings().job
    if text is None:
        raise ConfigError("NEVA_JOB is not set: it holds the job as JSON")
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"NEVA_JOB: no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError("NEVA_JOB: no job: expected a mapping with apiVersion, kind, …")
    return parse_job(data, "NEVA_JOB")


def leave_last_words(reason: Reason, message: str) -> None:
    """Say why this process ends. NEVA_TERMINATION_LOG names the file where it isn't the usual."""
    path = settings().termination_log or TERMINATION_LOG
    if settings().termination_log is None and not path.exists():
        return
    with contextlib.suppress(OSError):
        words = f"{reason}: {message}\n".encode()[:_MAX_WORDS_BYTES]
        path.write_text(words.decode(errors="ignore"), encoding="utf-8")


def read_last_words(text: str) -> tuple[Reason | None, str]:
    """(reason, message) of what a process left; no reason when the words are not one of ours."""
    word, _, message = text.partition(": ")
    try:
        return Reason(word), message.strip()
    except ValueError:
        return None, text.strip()
