"""What is done for a drop whose job has ended. Can be repeated at any point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controller.drop.bucket import Bucket, Fate
from controller.drop.done import errors_key, outputs_of, take_away, tell_errors
from controller.drop.scan import Drop
from controller.summary import SUCCEEDED, read_summary
from neva.conditions import ConditionType, Phase
from neva.drop_folder import DropFolderSpec
from neva.store import open_store

Json = Mapping[str, Any]


def care_for(spec: DropFolderSpec, watched: Bucket, drop: Drop, job: Json) -> str:
    """Move, tag or keep the inputs of a job that ended, and tell what was wrong with them.

    A failed job's inputs stay where they are, with the errors beside them: corrected ones, put in
    the same place, are a new drop.

    Returns:
        What became of them, in a word. Raises StoreError.
    """
    inputs, outputs = open_store(watched.uri), outputs_of(spec.output_base, drop)
    if phase_of(job) == Phase.FAILED:
        reason, message = _why_failed(job)
        tell_errors(inputs, outputs, drop, errors_key(drop, None), reason, message)
        return "failed"
    fates = take_away(watched, drop, spec.done.action, spec.done.prefix)
    inputs.delete(errors_key(drop, None))  # of an earlier version
    moved = spec.done.action == "move" and Fate.CHANGED not in fates
    key = errors_key(drop, spec.done.prefix if moved else None)
    tell_errors(inputs, outputs, drop, key, "", "")
    return str(Fate.CHANGED) if Fate.CHANGED in fates else str(spec.done.action)


def care_for_leftover(spec: DropFolderSpec, watched: Bucket, drop: Drop) -> None:
    """The same for a drop whose job was deleted: moved or tagged if it had succeeded."""
    if spec.done.action == "keep":
        return
    summary = read_summary(outputs_of(spec.output_base, drop))
    if summary is not None and summary.get("state") == SUCCEEDED:
        take_away(watched, drop, spec.done.action, spec.done.prefix)


def phase_of(job: Json) -> Phase:
    return Phase((job.get("status") or {}).get("phase") or Phase.PENDING)


def _why_failed(job: Json) -> tuple[str, str]:
    """(reason, message) of a failed job: of its validation, if it got no further."""
    conditions = {c["type"]: c for c in (job.get("status") or {}).get("conditions") or []}
    validated = conditions.get(ConditionType.VALIDATED)
    told = conditions.get(ConditionType.FINISHED)
    if validated is not None and validated["status"] == "False":
        told = validated
    if told is None:
        return str(Phase.FAILED), ""
    return told["reason"], told.get("message") or ""
