"""A series' job of one date, and how its score compares with the last good night's. Pure."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from neva.conditions import ConditionReason, Phase
from neva.errors import ConfigError
from neva.gate import Decision, fell_by_no_more
from neva.job_file import parse_job
from neva.spec import API_VERSION, KIND
from neva.spec_base import check_dns_label

LABEL_SERIES = "neva-batch.dev/series"
LABEL_DATE = "neva-batch.dev/date"
ANNOTATION_STARTED_BY = "neva-batch.dev/started-by"

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a night went.

    Attributes:
        compared: whether there were two scores.
        worse: the score fell by more than the threshold.
    """

    reason: ConditionReason
    message: str
    compared: bool = False
    worse: bool = False


def tonight(now_s: float, time_zone: str) -> date:
    """The date by the clock on the wall there.

    Raises:
        ConfigError: no such time zone.
    """
    try:
        return datetime.fromtimestamp(now_s, ZoneInfo(time_zone)).date()
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"{time_zone!r} is no time zone") from error


def dated_job(
    template: Json, series: str, day: date, namespace: str, started_by: str | None
) -> dict[str, Any]:
    """The series' job of `day`: name, labels and output.uri carry the date.

    Raises:
        ConfigError: the name is too long; JobFileError: the template is no valid job.
    """
    stamp = day.strftime("%Y%m%d")
    name = f"{series}-{stamp}"
    try:
        check_dns_label(name)
    except ValueError as error:
        raise ConfigError(f"--series {series!r}: the job's name {name} {error}") from error
    metadata = template.get("metadata") or {}
    spec = copy.deepcopy(dict(template["spec"]))
    uri = spec["output"]["uri"].rstrip("/")
    spec["output"] = {**spec["output"], "uri": f"{uri}/{stamp}/"}
    annotations = dict(metadata.get("annotations") or {})
    if started_by:
        annotations[ANNOTATION_STARTED_BY] = started_by
    body = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {
                **(metadata.get("labels") or {}),
                LABEL_SERIES: series,
                LABEL_DATE: stamp,
            },
            "annotations": annotations,
        },
        "spec": spec,
    }
    parse_job(body, name)
    return body


def job_started_by(jobs: Iterable[Json], started_by: str | None) -> Json | None:
    """The job that an earlier try of this very run made: a retry after midnight goes on with it."""
    for job in jobs:
        annotations = job["metadata"].get("annotations") or {}
        if started_by and annotations.get(ANNOTATION_STARTED_BY) == started_by:
            return job
    return None


def last_good_night(jobs: Iterable[Json], job: Json) -> Json | None:
    """The latest night before `job`'s that succeeded and has a score."""
    stamp = _stamp(job)
    nights = [
        other
        for other in jobs
        if _stamp(other) < stamp and phase_of(other) == Phase.SUCCEEDED and _score(other)
    ]
    return max(nights, key=_stamp, default=None)


def compare(job: Json, baseline: Json | None, max_drop: Decimal | None) -> Verdict:
    """Compare the scores of two nights.

    Args:
        max_drop: how far the score may fall; without it nothing is too far.
    """
    score = _score(job)
    if score is None:
        return Verdict(ConditionReason.NO_SCORE, "this night has no score: it was not judged")
    if baseline is None:
        words = f"score {score}; no good night of the series before it"
        return Verdict(ConditionReason.NO_BASELINE, words)
    before = _score(baseline)
    assert before is not None
    change = score - before
    how = "the same as" if change == 0 else f"{abs(change)} {'more' if change > 0 else 'less'} than"
    words = f"score {score}, {how} {before} of {baseline['metadata']['name']}"
    if max_drop is not None:
        words += f"; it may fall by {max_drop}"
    worse = max_drop is not None and fell_by_no_more(before, score, max_drop) is Decision.NO_GO
    if change > 0:
        reason = ConditionReason.BETTER
    elif worse or (max_drop is None and change < 0):
        reason = ConditionReason.WORSE
    else:
        reason = ConditionReason.SAME
    return Verdict(reason, words, compared=True, worse=worse)


def phase_of(job: Json) -> Phase:
    return Phase((job.get("status") or {}).get("phase") or Phase.PENDING)


def _stamp(job: Json) -> str:
    return str((job["metadata"].get("labels") or {}).get(LABEL_DATE) or "")


def _score(job: Json) -> Decimal | None:
    text = (job.get("status") or {}).get("score")
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        return None
