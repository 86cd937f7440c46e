"""The status of a job: built from what was seen, compared with what is written. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.operator.actions import TellEvent
from controller.operator.names import bounded
from controller.operator.seen import JobSeen, Observed, RunSeen
from neva.conditions import ConditionReason, ConditionType, Phase
from neva.ledger import layout

_MAX_MESSAGE = 2000
_MAX_EVENT_MESSAGE = 1000  # the API server takes 1024
# What may change every second; written at a bounded rate.
_VOLATILE = ("rows", "shards", "rowsPerSecond", "eta", "observedGeneration")
_WARNINGS = {
    ConditionReason.PREPARE_FAILED,
    ConditionReason.INVALID_SPEC,
    ConditionReason.UNSCHEDULABLE,
    ConditionReason.IMAGE_PULL_FAILED,
    ConditionReason.MISSING_SECRET,
    ConditionReason.MISSING_CONFIG_MAP,
    ConditionReason.POD_REFUSED,
    ConditionReason.WORKERS_FAILING,
    ConditionReason.STORE_UNREACHABLE,
    ConditionReason.BROKER_UNREACHABLE,
}
_HEADLINE = {
    Phase.PREPARING: ConditionType.VALIDATED,
    Phase.QUEUED: ConditionType.QUEUED,
    Phase.RUNNING: ConditionType.RUNNING,
    Phase.FINISHING: ConditionType.FINISHED,
    Phase.SUCCEEDED: ConditionType.FINISHED,
    Phase.FAILED: ConditionType.FINISHED,
    Phase.SUSPENDED: ConditionType.QUEUED,
}


@dataclass(frozen=True, slots=True)
class Say:
    """One condition as it should be."""

    type: ConditionType
    status: bool | None
    reason: str
    message: str = ""


def build_status(
    seen: Observed, phase: Phase, says: Iterable[Say], *, worker_round: int | None = None
) -> dict[str, Any]:
    """The status that `seen` gives. What isn't known now stays as it was written last.

    Args:
        says: conditions to set; others keep what they said.
        worker_round: number of the latest worker Job that was seen.
    """
    old = seen.job.status
    now = rfc3339(seen.now_s)
    status: dict[str, Any] = {
        "observedGeneration": seen.job.generation,
        "phase": str(phase),
        "startTime": old.get("startTime") or (None if phase is Phase.SUSPENDED else now),
        "runId": old.get("runId"),
        "workerRound": max(old.get("workerRound") or 0, worker_round or 0) or None,
        "rows": old.get("rows"),
        "shards": old.get("shards"),
    }
    run = seen.run
    if run is not None and run.run_id is not None and run.problem is None:
        status |= _counts(run, old)
        if phase is Phase.RUNNING and run.rows_per_s is not None:
            status["rowsPerSecond"] = f"{run.rows_per_s:.1f}"
            status["eta"] = short_eta(run)
    if phase.is_final:
        status["finishTime"] = old.get("finishTime") or now
        status |= _results(seen)
    status["conditions"] = _conditions(old.get("conditions") or [], says, now, seen.job.generation)
    return {key: value for key, value in status.items() if value is not None}


def _counts(run: RunSeen, old: Mapping[str, Any]) -> dict[str, Any]:
    # A shard whose lease lapsed would make the count step back; committed rows never go.
    done = max(run.num_done, (old.get("rows") or {}).get("done", 0))
    if run.summary is not None or run.all_committed:
        done = run.num_rows
    return {
        "runId": run.run_id,
        "rows": {"total": run.num_rows, "done": done, "failed": run.num_failed},
        "shards": {"total": run.num_shards, "done": run.num_shards_done},
    }


def _results(seen: Observed) -> dict[str, Any]:
    run, spec = seen.run, seen.job.spec
    old = seen.job.status
    found = {key: old[key] for key in ("score", "outputs", "report") if key in old}
    if spec is not None and run is not None and run.summary is not None:
        base = spec.output.uri.rstrip("/")
        found["outputs"] = f"{base}/{layout.OUTPUTS}"
        found["report"] = f"{base}/{layout.REPORT}"
        if run.score is not None:
            found["score"] = run.score
    return found


def _conditions(
    old: Iterable[Mapping[str, Any]], says: Iterable[Say], now: str, generation: int
) -> list[dict[str, Any]]:
    kept = {str(condition["type"]): dict(condition) for condition in old}
    # Written by whoever compares nights, with a field manager of its own.
    kept.pop(ConditionType.COMPARED, None)
    for say in says:
        before = kept.get(say.type)
        status = {True: "True", False: "False", None: "Unknown"}[say.status]
        same = before is not None and before["status"] == status
        kept[say.type] = {
            "type": str(say.type),
            "status": status,
            "reason": str(say.reason),
            "message": say.message[:_MAX_MESSAGE],
            "lastTransitionTime": before["lastTransitionTime"] if before and same else now,
            "observedGeneration": generation,
        }
    order = [str(kind) for kind in ConditionType]
    return sorted(kept.values(), key=lambda c: order.index(c["type"]) if c["type"] in order else 99)


def worth_writing(
    old: Mapping[str, Any], new: Mapping[str, Any], since_s: float | None, interval_s: float
) -> bool:
    """Whether to write now: what people act on at once, counts and words at a bounded rate.

    Args:
        since_s: time since the last write; None when this process has not written it.
    """
    if _essence(old) != _essence(new):
        return True
    return _comparable(old) != _comparable(new) and (since_s is None or since_s >= interval_s)


def same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether there is nothing to write."""
    return _comparable(old) == _comparable(new)


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    conditions = [c for c in status.get("conditions") or [] if c["type"] != ConditionType.COMPARED]
    return {**status, "conditions": {c["type"]: dict(c) for c in conditions}}


def _essence(status: Mapping[str, Any]) -> dict[str, Any]:
    steady = _comparable(status)
    for key in _VOLATILE:
        steady.pop(key, None)
    steady["conditions"] = {
        kind: (c["status"], c["reason"]) for kind, c in steady["conditions"].items()
    }
    return steady


def transition_event(job: JobSeen, new: Mapping[str, Any]) -> TellEvent | None:
    """The event of the step from the written status to `new`; None when it is no transition."""
    before, after = headline(job.status), headline(new)
    if after is None or (before is not None and before[:2] == after[:2]):
        return None
    phase, reason, message = after
    identity = (job.uid, before and before[:2], phase, reason, new.get("workerRound"))
    digest = hashlib.sha256(repr((*identity, job.generation)).encode()).hexdigest()[:16]
    warning = phase == Phase.FAILED or reason in _WARNINGS
    words = f"{phase}: {message}" if message else phase
    name = f"{bounded(job.name)}.{digest}"
    return TellEvent(name, reason, words[:_MAX_EVENT_MESSAGE], warning)


def headline(status: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """(phase, reason, message): what a status says in a line."""
    phase = status.get("phase")
    if not phase or phase not in set(Phase):
        return None
    kind = _HEADLINE.get(Phase(phase))
    for condition in status.get("conditions") or []:
        if condition["type"] == kind:
            return str(phase), condition["reason"], condition.get("message", "")
    return str(phase), str(phase), ""


def short_eta(run: RunSeen) -> str | None:
    """The later end of the estimate, in words of `kubectl get`."""
    return None if run.eta_s is None else duration(run.eta_s[1])


def duration(seconds: float) -> str:
    """As kubectl writes an age: 45s, 12m, 3h5m, 2d4h."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if hours else f"{days}d"


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def epoch_s(text: str | None) -> float | None:
    """Seconds of an RFC 3339 time, as Kubernetes writes it."""
    if not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
