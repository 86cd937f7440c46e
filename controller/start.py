"""Starts a run: validates everything a job names, then splits it. No worker is needed for that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from controller.intake import prompts_sha256, take_in
from controller.lines import put_lines
from controller.retry.start import start_retry
from controller.split import split
from neva.errors import ConfigError
from neva.job_file import answer_digest
from neva.language_sizes import read_language_sizes
from neva.ledger import Ledger, Manifest, layout
from neva.model_files import find_model, small_model_files
from neva.quantization import require_whole_groups
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.settings import settings
from neva.spec import JobSpec, VideoNevaJob
from neva.store import BucketNotFound, open_object, probe_conditional_put

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
    require_files(spec)
    if spec.retry_of is not None:
        manifest = start_retry(job, ledger)
        check_same_run(job, ledger, manifest)
        return manifest
    parts = find_model(spec.model)
    with small_model_files(parts) as model:
        prompts = RowPrompts(spec, model.profile(), model.tokenizer())
        if spec.model.quantization.enable:
            require_whole_groups(
                spec.model.quantization,
                read_language_sizes(model),
                spec.model.tensor_parallel_size,
            )
    with take_in(spec, prompts, settings().media_lookups) as intake:
        if intake.num_rows == 0:
            raise ConfigError(f"{spec.input.prompts}: no prompts in it")
        if intake.num_rejected:
            errors = (orjson.loads(line) for _, line in intake.rejected_lines())
            tell_rejected(intake.num_rejected, errors)
        if not spec.failure.tolerates(intake.num_rejected, intake.num_rows):
            put_lines(ledger.store, layout.ERRORS, (line for _, line in intake.rejected_lines()))
            return Refused(intake.num_rejected, intake.num_rows)
        manifest = split(job, ledger, intake, parts.digest)
    # Another controller may have been first, with another job.
    check_same_run(job, ledger, manifest, intake.prompts_sha256)
    return manifest


def require_files(spec: JobSpec) -> None:
    """Refuse a job that names files which don't exist, all at once.

    Raises:
        ConfigError: OBJECT_NOT_FOUND.
    """
    uris = [spec.input.prompts]
    if spec.model.quantization.calibration_prompts is not None:
        uris.append(spec.model.quantization.calibration_prompts)
    if spec.judge is not None:
        named = (spec.judge.questions, spec.judge.context, spec.judge.rules, *spec.judge.against)
        uris += [uri for uri in named if uri is not None]
    missing = []
    for uri in uris:
        store, key = open_object(uri)
        try:
            if store.head(key) is None:
                missing.append(f"{uri} does not exist")
        except BucketNotFound as error:
            missing.append(f"{uri}: {error.message}")
    if missing:
        raise ConfigError("; ".join(missing), reason=Reason.OBJECT_NOT_FOUND)


def check_same_run(
    job: VideoNevaJob, ledger: Ledger, manifest: Manifest, prompts: str | None = None
) -> None:
    """Refuse to go on with another job's output.

    Args:
        prompts: digest of the job's prompts file; None: not known yet.

    Raises:
        ConfigError: OUTPUT_IN_USE.
    """
    if manifest.answer_digest != answer_digest(job.spec):
        other = "another model, input or inference block"
    elif manifest.job["spec"].get("retryOf") != job.spec.retry_of:
        other = f"another retryOf ({manifest.job['spec'].get('retryOf')})"
    elif (prompts or prompts_sha256(job.spec)) not in (None, manifest.prompts_sha256):
        other = f"other prompts: {job.spec.input.prompts} was changed since"
    else:
        return
    raise ConfigError(
        f"{ledger.store.base_uri} holds a run with {other}; give this job an output.uri of its own",
        reason=Reason.OUTPUT_IN_USE,
    )
