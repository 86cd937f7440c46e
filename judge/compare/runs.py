"""A judged run, as far as runs are compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from judge.jsonl import id_key
from judge.reviews import REVIEWS
from neva.errors import ConfigError
from neva.ledger import layout
from neva.store.base import Store

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class QuestionOfRun:
    """One question that has a score."""

    category: str
    cluster: str
    score: float


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run's own answers (answer 2) as they were judged.

    Attributes:
        name: how tables call it.
        scores: its judge/scores.json.
        questions: by id; those without a score are missing.
    """

    name: str
    scores: Record
    questions: Mapping[str, QuestionOfRun]

    @property
    def unit(self) -> float:
        return float(self.scores["unit"])


def read_run(store: Store, name: str) -> JudgedRun:
    """Read the judged run under `store`.

    Raises:
        ConfigError: it was not judged, or by a version whose files lack what is needed.
    """
    data = store.get_or_none(layout.SCORES)
    reviews = store.get_or_none(REVIEWS)
    if data is None or reviews is None:
        raise ConfigError(f"{store.base_uri}: this run was not judged")
    try:
        scores = orjson.loads(data)
        model, _ = scores["answers"][1], scores["unit"]
        lines = [orjson.loads(line) for line in reviews.splitlines() if line]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        message = f"{store.base_uri}: judge/scores.json or reviews.jsonl is damaged or of an older "
        raise ConfigError(f"{message}version: {error!r}; judge the run again") from error
    pair = set(scores["answers"])
    return JudgedRun(
        name, scores, _questions((r for r in lines if set(r["answers"]) == pair), model)
    )


def _questions(reviews: Iterable[Record], model: str) -> dict[str, QuestionOfRun]:
    given: dict[str, list[float]] = {}
    about: dict[str, tuple[str, str]] = {}
    for review in reviews:
        key = id_key(review["question_id"])
        score = (review["scores"] or {}).get(model)
        if key is None or score is None:
            continue
        given.setdefault(key, []).append(score)
        about[key] = (review["category"], review["media"] or f"question {key}")
    return {
        key: QuestionOfRun(*about[key], sum(scores) / len(scores)) for key, scores in given.items()
    }
