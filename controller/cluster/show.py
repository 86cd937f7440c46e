"""What the API server tells of jobs, ready to be shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.operator.status import headline as status_headline
from controller.status.shown import Shown
from neva.conditions import ConditionReason, ConditionType, Phase

_GAP = "   "
_EMPTY = "<none>"


def job_shown(body: Mapping[str, Any]) -> Shown:
    """One job by its status."""
    status = body.get("status") or {}
    rows = status.get("rows") or {}
    phase = status.get("phase") or Phase.PENDING.value
    words = f"{_name(body)}: {phase}"
    if rows:
        words += f", {rows['done']} of {rows['total']} rows done, {rows['failed']} failed"
    return Shown(
        words,
        (words, *_details(body, status)),
        job_data(body),
        Phase(phase).is_final,
        rows.get("done", 0),
        rows.get("total", 0),
    )


def job_data(body: Mapping[str, Any]) -> dict[str, Any]:
    """For `-o json|yaml`, with the keys that a run's status has, where it knows them."""
    status, metadata = body.get("status") or {}, body["metadata"]
    told = (
        "runId",
        "rows",
        "shards",
        "rowsPerSecond",
        "eta",
        "score",
        "startTime",
        "finishTime",
        "report",
    )
    return {
        "name": metadata["name"],
        "namespace": metadata["namespace"],
        "output": body["spec"]["output"]["uri"],
        "phase": status.get("phase") or Phase.PENDING.value,
        **{key: status.get(key) for key in told},
        "conditions": [
            {key: condition.get(key) for key in ("type", "status", "reason", "message")}
            for condition in status.get("conditions") or []
        ],
        "advice": _advice(body, status) or None,
    }


def table_shown(table: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], where: str) -> Shown:
    """The jobs of a namespace, or of all, in kubectl's columns.

    Args:
        table: the API server's own.
        where: the namespace; "": all.
    """
    columns = table["columnDefinitions"]
    shown = [n for n, column in enumerate(columns) if not column.get("priority")]
    rows = [[columns[n]["name"].upper() for n in shown]]
    rows += [[_cell(row["cells"][n]) for n in shown] for row in table["rows"]]
    if not where:
        spaces = [row["object"]["metadata"]["namespace"] for row in table["rows"]]
        rows = [[space, *row] for space, row in zip(["NAMESPACE", *spaces], rows, strict=True)]
    lines = _aligned(rows) if len(rows) > 1 else [f"no jobs in {where or 'any namespace'}"]
    data = [job_data(body) for body in jobs]
    final = all(Phase(one["phase"]).is_final for one in data)
    words = "; ".join(job_shown(body).headline for body in jobs) or lines[0]
    return Shown(words, tuple(lines), {"jobs": data}, final)


def _details(body: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
    told = status_headline(status)
    if told is not None and told[1] != told[0]:
        yield f"  why      {told[1]}{f': {told[2]}' if told[2] else ''}"
    if (shards := status.get("shards")) is not None:
        yield f"  shards   {shards['done']} of {shards['total']} committed"
    if status.get("phase") == Phase.RUNNING and status.get("rowsPerSecond"):
        left = f", at most {status['eta']} left" if status.get("eta") else ""
        yield f"  rate     {status['rowsPerSecond']} rows/s{left}"
    for condition in status.get("conditions") or []:
        if condition["type"] in (ConditionType.JUDGED, ConditionType.COMPARED):
            words = f": {condition['message']}" if condition.get("message") else ""
            yield f"  {condition['type'].lower():<8} {condition['reason']}{words}"
    if status.get("score"):
        yield f"  score    {status['score']}"
    yield f"  output   {body['spec']['output']['uri']}"
    if status.get("report"):
        yield f"  report   {status['report']}"
    if advice := _advice(body, status):
        yield f"  {advice}"


def _advice(body: Mapping[str, Any], status: Mapping[str, Any]) -> str:
    metadata = body["metadata"]
    job = f"vnj/{metadata['name']} -n {metadata['namespace']}"
    phase = status.get("phase")
    if phase == Phase.SUSPENDED:
        return f"`neva resume {job}` lifts that"
    failed = (status.get("rows") or {}).get("failed", 0)
    told = status_headline(status)
    ended = phase == Phase.SUCCEEDED or (told and told[1] == ConditionReason.TOO_MANY_FAILED_ROWS)
    if ended and failed:
        return f"`neva retry {job}` asks the failed rows again"
    if phase == Phase.FAILED:
        return f"`neva logs {job}` shows what its pods said"
    return ""


def _name(body: Mapping[str, Any]) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


def _cell(value: Any) -> str:
    return _EMPTY if value in (None, "") else str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
