"""The status of a drop folder. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.drop.scan import Drop
from controller.operator.names import GROUP, MANAGER, VERSION, bounded
from controller.operator.status import epoch_s, rfc3339
from neva.conditions import ConditionReason, FolderCondition, Phase
from neva.drop_folder import DROP_FOLDER_KIND

_SCAN_TIME_S = 300.0  # lastScanTime alone is written no oftener
_MAX_MESSAGE = 2000
_MAX_EVENT_MESSAGE = 1000  # the API server takes 1024


@dataclass(frozen=True, slots=True)
class FolderSeen:
    """What is known of a folder after a turn.

    Attributes:
        phases: of its jobs.
        waiting: settled drops without a free slot.
        settling: drops that still change.
        num_refused: drops that make no valid job.
        not_ready: (reason, message) why it is not watched.
        problem: (reason, message) of what went wrong in the last look at it.
    """

    generation: int
    phases: tuple[str, ...]
    waiting: int
    settling: int
    num_refused: int
    concurrency: int
    scanned_s: float | None
    not_ready: tuple[ConditionReason, str] | None = None
    problem: tuple[ConditionReason, str] | None = None


def folder_status(seen: FolderSeen, old: Mapping[str, Any], now_s: float) -> dict[str, Any]:
    """The whole status."""
    succeeded = seen.phases.count(Phase.SUCCEEDED)
    failed = seen.phases.count(Phase.FAILED)
    status: dict[str, Any] = {
        "observedGeneration": seen.generation,
        "jobs": {
            "active": len(seen.phases) - succeeded - failed,
            "succeeded": succeeded,
            "failed": failed + seen.num_refused,
        },
        "conditions": list(_conditions(seen, old, rfc3339(now_s))),
    }
    scanned = rfc3339(seen.scanned_s) if seen.scanned_s is not None else old.get("lastScanTime")
    if scanned is not None:
        status["lastScanTime"] = scanned
    return status


def worth_writing(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether anything but the time of the last scan changed, or that is long ago."""
    if {**old, "lastScanTime": None} != {**new, "lastScanTime": None}:
        return True
    before, after = epoch_s(old.get("lastScanTime")), epoch_s(new.get("lastScanTime"))
    return after is not None and (before is None or after - before >= _SCAN_TIME_S)


def _conditions(seen: FolderSeen, old: Mapping[str, Any], now: str) -> Iterable[dict[str, Any]]:
    before = {c["type"]: c for c in old.get("conditions") or []}
    if seen.not_ready is not None:
        ready = ("False", *seen.not_ready)
    else:
        ready = ("True", ConditionReason.WATCHING, "")
    says = {FolderCondition.READY: ready}
    if seen.problem is not None:
        says[FolderCondition.SCANNED] = ("False", *seen.problem)
    elif seen.scanned_s is not None:
        says[FolderCondition.SCANNED] = ("True", *_scanned(seen))
    for kind in FolderCondition:
        if kind not in says:
            if kind in before:
                yield dict(before[kind])
            continue
        status, reason, message = says[kind]
        held = before.get(kind)
        same = held is not None and held["status"] == status
        yield {
            "type": str(kind),
            "status": status,
            "reason": str(reason),
            "message": message[:_MAX_MESSAGE],
            "lastTransitionTime": held["lastTransitionTime"] if held and same else now,
            "observedGeneration": seen.generation,
        }


def _scanned(seen: FolderSeen) -> tuple[ConditionReason, str]:
    settling = f"{_files(seen.settling)} may still change" if seen.settling else ""
    if not seen.waiting:
        return ConditionReason.SCAN_SUCCEEDED, settling
    waiting = f"{_files(seen.waiting)} for one of {seen.concurrency} jobs to end"
    waiting = waiting.replace(" for", " waits for" if seen.waiting == 1 else " wait for", 1)
    return ConditionReason.AT_CONCURRENCY_LIMIT, "; ".join(filter(None, (waiting, settling)))


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number} files"


def job_created_event(folder: Mapping[str, Any], drop: Drop, now_s: float) -> dict[str, Any]:
    """The event of a drop that became a job; the same for the same drop."""
    now, metadata = rfc3339(now_s), folder["metadata"]
    digest = hashlib.sha256(f"{metadata['uid']} {drop.name}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{bounded(metadata['name'])}.{digest}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": DROP_FOLDER_KIND,
            **{key: metadata[key] for key in ("namespace", "name", "uid")},
        },
        "reason": str(ConditionReason.JOB_CREATED),
        "message": f"{drop.key} became {drop.name}"[:_MAX_EVENT_MESSAGE],
        "type": "Normal",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
