"""Dated jobs and verdicts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from controller.nightly.night import compare, dated_job, job_started_by, last_good_night, tonight
from neva.conditions import ConditionReason as Why
from neva.errors import ConfigError

TEMPLATE: dict[str, Any] = {
    "metadata": {"name": "kitchen", "labels": {"team": "k"}},
    "spec": {
        "model": {"uri": "s3://models/m/"},
        "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
        "output": {"uri": "s3://eval/nightly"},
    },
}
DAY = date(2026, 11, 22)


def night(stamp: str, score: str | None, phase: str = "Succeeded", **annotations: str) -> Any:
    status = {"phase": phase, **({"score": score} if score is not None else {})}
    metadata = {
        "name": f"kitchen-{stamp}",
        "labels": {"neva-batch.dev/date": stamp},
        "annotations": annotations,
    }
    return {"metadata": metadata, "status": status}


def test_name_labels_and_output_carry_the_date() -> None:
    body = dated_job(TEMPLATE, "kitchen", DAY, "eval", "run-1")
    assert body["metadata"]["name"] == "kitchen-20261122"
    assert body["metadata"]["namespace"] == "eval"
    assert body["metadata"]["labels"] == {
        "team": "k",
        "neva-batch.dev/series": "kitchen",
        "neva-batch.dev/date": "20261122",
    }
    assert body["spec"]["output"]["uri"] == "s3://eval/nightly/20261122/"
    assert TEMPLATE["spec"]["output"]["uri"] == "s3://eval/nightly"


def test_the_date_is_that_of_the_clock_on_the_wall() -> None:
    late = datetime(2026, 11, 22, 23, 30, tzinfo=UTC).timestamp()
    assert tonight(late, "Etc/UTC") == DAY
    assert tonight(late, "Europe/Berlin") == date(2026, 11, 23)
    with pytest.raises(ConfigError):
        tonight(late, "Mars/Olympus")


@pytest.mark.parametrize("series", ["Kitchen", "a" * 60, "-a"])
def test_a_series_that_makes_no_name_is_refused(series: str) -> None:
    with pytest.raises(ConfigError):
        dated_job(TEMPLATE, series, DAY, "eval", None)


def test_the_last_good_night_is_the_latest_before_with_a_score() -> None:
    tonights = night("20261122", "80.0")
    nights = [
        night("20261118", "70.0"),
        night("20261119", "71.0"),
        night("20261120", None),
        night("20261121", "75.0", phase="Failed"),
        tonights,
        night("20261123", "90.0"),
    ]
    found = last_good_night(nights, tonights)
    assert found is not None and found["metadata"]["name"] == "kitchen-20261119"
    assert last_good_night([tonights], tonights) is None


@pytest.mark.parametrize(
    ("score", "before", "max_drop", "reason", "worse"),
    [
        ("87.5", "87.2", None, Why.BETTER, False),
        ("87.5", "87.5", None, Why.SAME, False),
        ("87.2", "87.5", None, Why.WORSE, False),
        (
            "87.2",
            "87.5",
            "0.3",
            Why.SAME,
            False,
        ),  # in binary fractions it would be more
        ("87.1", "87.5", "0.3", Why.WORSE, True),
        ("87.5", "87.1", "0", Why.BETTER, False),
        ("87.4", "87.5", "0", Why.WORSE, True),
    ],
)
def test_scores_are_compared_to_the_point(
    score: str, before: str, max_drop: str | None, reason: str, worse: bool
) -> None:
    limit = None if max_drop is None else Decimal(max_drop)
    verdict = compare(night("20261122", score), night("20261121", before), limit)
    assert (str(verdict.reason), verdict.worse, verdict.compared) == (reason, worse, True)
    assert score in verdict.message and before in verdict.message
    assert "kitchen-20261121" in verdict.message


def test_without_two_scores_nothing_is_compared() -> None:
    first = compare(night("20261122", "80.0"), None, Decimal(1))
    assert (str(first.reason), first.compared, first.worse) == (
        Why.NO_BASELINE,
        False,
        False,
    )
    unjudged = compare(night("20261122", None), night("20261121", "80.0"), Decimal(1))
    assert (str(unjudged.reason), unjudged.compared) == (Why.NO_SCORE, False)


def test_a_retry_knows_the_night_it_began() -> None:
    nights = [
        night("20261121", None, **{"neva-batch.dev/started-by": "run-1"}),
        night("20261122", None),
    ]
    assert job_started_by(nights, "run-1") is nights[0]
    assert job_started_by(nights, "run-2") is None
    assert job_started_by(nights, None) is None
