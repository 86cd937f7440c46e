"""Starts a run: validates everything a job names, then splits it. No worker is needed for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from controller.intake import REJECTED, prompts_sha256, read_into
from controller.split import split
from controller.spool import Spool
from neva.errors import ConfigError
from neva.job_file import answer_digest
from neva.ledger import Ledger, Manifest, layout
from neva.model_files import find_model, small_model_files
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.settings import settings
from neva.spec import VideoNevaJob
from neva.store import probe_conditional_put

TellRejected = Callable[[int, Iterator[dict[str, Any]]], None]


@dataclass(frozen=True, slots=True)
class Refused:
    """Too many rows are bad: nothing was started. All errors are in errors.jsonl."""

    num_rejected: int
    num_rows: int


def start_run(job: VideoNevaJob, ledger: Ledger, tell_rejected: TellRejected) -> Manifest | Refused:
    """Validate and split `job`.

    Args:
        tell_rejected: takes the number of bad rows and their lines of errors.jsonl, if any.

    Raises:
        ConfigError: the model, the store or the prompts as a whole are wrong.
    """
    spec = job.spec
    probe_conditional_put(ledger.store)
    parts = find_model(spec.model)
    with small_model_files(parts) as model:
        prompts = RowPrompts(spec, model.profile(), model.tokenizer())
    with Spool() as spool:
        intake = read_into(spool, spec, prompts, settings().media_lookups)
        if intake.num_rows == 0:
            raise ConfigError(f"{spec.input.prompts}: no prompts in it")
        if intake.num_rejected:
            tell_rejected(intake.num_rejected, map(orjson.loads, spool.lines(REJECTED)))
        if not spec.failure.tolerates(intake.num_rejected, intake.num_rows):
            ledger.store.put(layout.ERRORS, b"".join(spool.lines(REJECTED)))
            return Refused(intake.num_rejected, intake.num_rows)
        return split(job, ledger, spool, intake, parts.digest)


def check_same_run(job: VideoNevaJob, ledger: Ledger, manifest: Manifest) -> None:
    """Refuse to go on with another job's output.

    Raises:
        ConfigError: OUTPUT_IN_USE.
    """
    if manifest.answer_digest != answer_digest(job.spec):
        other = "another model, input or inference block"
    elif prompts_sha256(job.spec) not in (None, manifest.prompts_sha256):
        other = f"other prompts: {job.spec.input.prompts} was changed since"
    else:
        return
    raise ConfigError(
        f"{ledger.store.base_uri} holds a run with {other}; give this job an output.uri of its own",
        reason=Reason.OUTPUT_IN_USE,
    )
