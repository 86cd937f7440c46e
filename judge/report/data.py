"""What a report shows, read from a run's files into plain views. No HTML here.

Every number is taken from summary.json and scores.json as it stands there; where the lines of a
file don't add up to it, the report says so (`Report.warnings`) and corrects nothing.
"""

from __future__ import annotations

import base64
import importlib.metadata
from collections.abc import Iterable
from typing import Any

import orjson
from pydantic import ValidationError

from judge.jsonl import id_key
from judge.report.rows import build_rows, question_text
from judge.report.shapes import (
    ErrorShape,
    ManifestShape,
    OutputShape,
    ReviewShape,
    ScoresShape,
    Shape,
    SummaryShape,
)
from judge.report.views import ErrorView, Record, Report
from judge.reviews import REVIEWS
from neva.answer_record import media_key
from neva.errors import ConfigError
from neva.ledger import LedgerCorrupt, layout
from neva.ledger.records import problem_of
from neva.pages import visible
from neva.store.base import Store

_JPEG = b"\xff\xd8\xff"
_MOST_FRAME_BYTES = 32_000_000  # of the page; a browser takes more, a mail server does not


def load_report(store: Store, name: str | None = None) -> Report:
    """Read the run under `store`.

    Args:
        name: the title; by default the job's name, else the last part of the output's URI.

    Raises:
        ConfigError: there is neither a finished run nor a review here.
        LedgerCorrupt: a file is damaged, or not what its writer writes.
    """
    summary = _json(store, layout.SUMMARY, SummaryShape)
    scores = _json(store, layout.SCORES, ScoresShape)
    outputs = _lines(store, layout.OUTPUTS, OutputShape)
    errors = _lines(store, layout.ERRORS, ErrorShape)
    # Reviews without scores are the remains of a run that is being judged again.
    reviews = _lines(store, REVIEWS, ReviewShape) if scores is not None else None
    if summary is None and outputs is None and reviews is None:
        raise ConfigError(f"{store.base_uri}: no finished run and no reviews here")
    manifest = _json(store, layout.MANIFEST, ManifestShape)
    all_scores = () if scores is None else (scores, *scores.get("others", ()))
    names = [str(name) for name in scores["answers"]] if scores else []
    rows = build_rows(outputs or (), reviews or (), names)
    media = list(dict.fromkeys(row["m"] for row in rows if row["m"]))
    return Report(
        name=visible(name or _name(store, summary or {})),
        state=str(
            (summary or {}).get("state", "Judged only" if outputs is None else "Not finished")
        ),
        model_id=_known(summary, "model_id"),
        model_digest=_known(summary, "model_digest"),
        stages_s=(summary or {}).get("stages_s") or {},
        counts=tuple(_counts(summary, scores, outputs, errors)),
        facts=tuple(_facts(summary or {}, manifest or {}, all_scores, outputs or ())),
        job=None if manifest is None else _pretty(manifest["job"]),
        scores=all_scores,
        errors=_grouped(errors or ()),
        judge_errors=_grouped_reviews(reviews or ()),
        rows=tuple(rows),
        frames=_frames(store, media),
        num_media=len(media),
        warnings=tuple(_disagreements(summary, outputs, errors)),
    )


def _json(store: Store, key: str, shape: type[Shape]) -> dict[str, Any] | None:
    data = store.get_or_none(key)
    return None if data is None else _record(data, shape, store.uri_of(key))


def _lines(store: Store, key: str, shape: type[Shape]) -> list[dict[str, Any]] | None:
    data = store.get_or_none(key)
    if data is None:
        return None
    where = store.uri_of(key)
    numbered = enumerate(data.splitlines(), start=1)
    return [_record(line, shape, f"{where}, line {number},") for number, line in numbered if line]


def _record(data: bytes, shape: type[Shape], where: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = orjson.loads(data)
        shape.model_validate(record)
    except ValidationError as error:
        raise LedgerCorrupt(f"{where} is damaged: {problem_of(error)}") from error
    except orjson.JSONDecodeError as error:
        raise LedgerCorrupt(f"{where} is damaged: {error}") from error
    return record


def _name(store: Store, summary: Record) -> str:
    return str(summary.get("job") or store.base_uri.rstrip("/").rpartition("/")[2])


def _known(summary: Record | None, key: str) -> str | None:
    value = (summary or {}).get(key)
    return None if value is None else visible(value)


def _counts(
    summary: Record | None,
    scores: Record | None,
    outputs: list[Any] | None,
    errors: list[Any] | None,
) -> Iterable[tuple[str, int]]:
    if summary is not None:
        yield "prompts", summary["rows"]
        yield "answered", summary["answered"]
        yield "failed", summary["failed"]
    elif outputs is not None:
        yield "answered", len(outputs)
        yield "failed", len(errors or ())
    if scores is not None:
        yield "judged", scores["num_judged"]
        yield "without a verdict", scores["num_failed"]


def _disagreements(
    summary: Record | None, outputs: list[Any] | None, errors: list[Any] | None
) -> list[str]:
    if summary is None:
        return []
    files = ((layout.OUTPUTS, "answered", outputs), (layout.ERRORS, "failed", errors))
    return [
        f"summary.json says {summary[key]} {key}, {name} holds {len(lines or ())}"
        for name, key, lines in files
        if len(lines or ()) != summary[key]
    ]


def _grouped(errors: Iterable[Record]) -> dict[str, list[ErrorView]]:
    groups: dict[str, list[ErrorView]] = {}
    for error in errors:
        record = error.get("record") or {}
        where = f"line {error.get('line')}"
        if error.get("question_id") is not None:
            where += f", question {error['question_id']}"
        view = ErrorView(visible(where), visible(error.get("message")), question_text(record))
        groups.setdefault(str(error.get("reason")), []).append(view)
    return dict(sorted(groups.items()))


def _grouped_reviews(reviews: Iterable[Record]) -> dict[str, list[ErrorView]]:
    """Questions without any verdict, by the reason of their first failed review, as in scores."""
    first_failures: dict[str, Record] = {}
    judged: set[str] = set()
    for review in reviews:
        key = id_key(review["question_id"]) or ""
        if review["scores"] is not None:
            judged.add(key)
        else:
            first_failures.setdefault(key, review)
    groups: dict[str, list[ErrorView]] = {}
    for key, review in first_failures.items():
        if key not in judged:
            where = visible(f"question {review['question_id']}")
            view = ErrorView(where, visible(review["message"]), visible(review["question"]))
            groups.setdefault(str(review["reason"]), []).append(view)
    return dict(sorted(groups.items()))


def _facts(
    summary: Record, manifest: Record, all_scores: Iterable[Record], outputs: Iterable[Record]
) -> Iterable[tuple[str, str]]:
    """What else there is to know, as name and value."""
    yield "neva-batch", importlib.metadata.version("neva-batch")
    if summary.get("model_digest"):
        yield "model digest", str(summary["model_digest"])
    if summary.get("quantization"):
        yield "quantization", orjson.dumps(summary["quantization"]).decode()
    switches = sorted({str(o["compat"]) for o in outputs if o.get("compat")})
    if switches:
        yield "compat switches", "; ".join(map(visible, switches))
    if manifest.get("prompts_sha256"):
        yield "prompts, SHA-256", str(manifest["prompts_sha256"])
    engine_s = (summary.get("workers_s") or {}).get("engine")
    if engine_s:
        model = (manifest.get("job") or {}).get("spec", {}).get("model", {})
        ranks = model.get("tensorParallelSize", 1) * model.get("pipelineParallelSize", 1)
        yield "GPU-hours", f"{engine_s * ranks / 3600:.4g} (the engine's seconds by its ranks)"
    for stage, seconds in (summary.get("workers_s") or {}).items():
        yield f"workers: {stage.replace('_', ' ')}", f"{seconds:.1f} s"
    for scores in all_scores:
        yield from _judge_facts(scores)


def _judge_facts(scores: Record) -> Iterable[tuple[str, str]]:
    judge, names = scores["judge"], " / ".join(map(str, scores["answers"]))
    served = ", ".join(judge["served_models"]) or "it does not say"
    yield f"judge of {visible(names)}", visible(f"{judge['model']} (served: {served})")
    yield "judge's endpoint", visible(judge["endpoint"])
    sampling = ", ".join(f"{key} {value}" for key, value in judge["sampling"].items())
    yield "judge's sampling", sampling
    yield "rubric's digest", str(judge["rules_digest"])
    tokens = f"{scores['num_prompt_tokens']} in, {scores['num_completion_tokens']} out"
    yield "judge's tokens", tokens
    if scores.get("cost") is not None:
        yield "judge's cost", f"{scores['cost']:.4f}"


def _pretty(job: Any) -> str:
    return visible(orjson.dumps(job, option=orjson.OPT_INDENT_2).decode())


def _frames(store: Store, media: Iterable[str]) -> dict[str, str]:
    """The frames that the model saw, by media name, as many as a page can hold."""
    frames: dict[str, str] = {}
    num_bytes = 0
    for name in media:
        data = store.get_or_none(layout.frames(media_key(name)))
        if data is None or not data.startswith(_JPEG):
            continue
        num_bytes += len(data)
        if num_bytes > _MOST_FRAME_BYTES:
            break
        frames[name] = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return frames
