"""summary.json: the run in numbers, written when everything else but the report is there; and the
judge's scores.json as it is read again.
"""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from controller.merge import Merged
from neva.ledger import LedgerCorrupt, Manifest, layout
from neva.ledger.records import problem_of
from neva.quantization import quantized_model
from neva.spec import VideoNevaJob
from neva.store.base import Store

SUCCEEDED = "Succeeded"
FAILED = "Failed"
CANCELLED = "Cancelled"


class _Summary(BaseModel):
    """What readers rely on."""

    model_config = ConfigDict(strict=True)

    state: str
    rows: int
    answered: int
    failed: int
    failed_by_reason: dict[str, int]
    fail_on_error: Any  # compared, and shown
    judge: dict[str, Any] | None = None


class _Mean(BaseModel):
    model_config = ConfigDict(strict=True)

    relative: float | None = None


class _Scores(BaseModel):
    """The same of the judge's scores."""

    model_config = ConfigDict(strict=True)

    num_questions: int = 0
    num_judged: int = 0
    all: _Mean | None = None


def summarize(
    job: VideoNevaJob,
    manifest: Manifest,
    merged: Merged,
    stages_s: dict[str, float],
    quantization: dict[str, Any],
    workers_s: dict[str, float],
) -> dict[str, Any]:
    """The summary of a merged run.

    Args:
        workers_s: seconds of the workers by stage (`neva.timings`).
        quantization: in effect, as the outputs name it; {}: none.
        stages_s: wall seconds of this invocation's stages; a run that was interrupted shows those
            of its last part.
    """
    num_rows = manifest.num_rows + manifest.num_kept
    tolerated = job.spec.failure.tolerates(merged.num_failed, num_rows)
    return {
        "job": job.metadata.name,
        "state": SUCCEEDED if tolerated else FAILED,
        "rows": num_rows,
        "answered": merged.num_answered,
        "failed": merged.num_failed,
        "failed_by_reason": merged.failed_by_reason,
        "fail_on_error": job.spec.failure.fail_on_error,
        "model_id": quantized_model(job.spec.model.uri, quantization),
        "model_digest": manifest.model_digest,
        "quantization": quantization or None,
        "judge": None,
        "stages_s": rounded(stages_s),
        "workers_s": workers_s,
    }


def rounded(stages_s: dict[str, float]) -> dict[str, float]:
    """Seconds as a person reads them."""
    return {name: round(seconds, 1) for name, seconds in stages_s.items()}


def add_judge(summary: dict[str, Any], store: Store) -> None:
    """Take the judge's counts over from its scores, so that both say the same."""
    scores = read_scores(store)
    if scores is not None:
        keys = ("model", "num_questions", "num_judged", "num_failed")
        summary["judge"] = {key: scores[key] for key in keys if key in scores}


def write_summary(store: Store, summary: dict[str, Any]) -> None:
    store.put(layout.SUMMARY, orjson.dumps(summary, option=orjson.OPT_INDENT_2))


def read_summary(store: Store) -> dict[str, Any] | None:
    """None: there is none yet. Raises LedgerCorrupt for what is no summary."""
    return _read(store, layout.SUMMARY, _Summary)


def read_scores(store: Store) -> dict[str, Any] | None:
    """None: there are none yet. Raises LedgerCorrupt for what is no scores.json."""
    return _read(store, layout.SCORES, _Scores)


def _read(store: Store, key: str, kind: type[BaseModel]) -> dict[str, Any] | None:
    data = store.get_or_none(key)
    if data is None:
        return None
    try:
        found: dict[str, Any] = orjson.loads(data)
        kind.model_validate(found)
    except ValidationError as error:
        raise LedgerCorrupt(f"{key}: {problem_of(error)}") from error
    except ValueError as error:
        raise LedgerCorrupt(f"{key}: {error}") from error
    return found


def is_finished(store: Store, job: VideoNevaJob) -> bool:
    """Whether nothing is left to do for the run: it succeeded, or failed by the job's threshold."""
    if store.head(layout.SUCCESS) is not None:
        return True
    summary = read_summary(store)
    if summary is None or store.head(layout.REPORT) is None:
        return False
    same_threshold = summary["fail_on_error"] == job.spec.failure.fail_on_error
    return bool(summary["state"] == FAILED and same_threshold)
