"""The arithmetic and the files of NeMo's `mixtral_eval.py`, for comparison with its results. Pure.

What it does otherwise than we do, all of it wrong, none of it done anywhere but here:
* it reads the first line alone, and any two numbers on it are scores, 15, -3 and nan too;
* a review that failed is two scores of -1, which are averaged in;
* it asks in one order only, the first model first;
* a question that one of the files does not answer is left out without a word.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from judge.jsonl import id_key

PREFIX = "llava_bench_"
FAILED = (-1.0, -1.0)
_RULE_LINE = "=" * 33
_NOTHING = "-"

Review = Mapping[str, Any]
"""A line of judge/reviews.jsonl."""


def nemo_scores(reply: str | None) -> tuple[float, float]:
    """A reply as the original reads it. At `8/10 7/10` it would have died; that is -1 here, too."""
    if not reply:
        return FAILED
    words = reply.split("\n")[0].replace(",", " ").split()
    try:
        first, second = map(float, words)
    except ValueError:
        return FAILED
    return first, second


def nemo_table(reviews: Iterable[Review]) -> str:
    """The table that the original prints for these reviews."""
    means = nemo_means(reviews)
    return _table((name, f"{first}", f"{second}") for name, (first, second) in means.items())


def nemo_means(reviews: Iterable[Review]) -> dict[str, tuple[float, float]]:
    """The numbers of that table, of 100."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for review in reviews:
        if review["order"] == "as_given":
            scores = nemo_scores(review["content"])
            for name in ("all", PREFIX + review["category"]):
                groups.setdefault(name, []).append(scores)
    return {
        name: (_of_100([pair[0] for pair in groups[name]]), _of_100([p[1] for p in groups[name]]))
        for name in sorted(groups)
    }


def our_table(record: Mapping[str, Any]) -> str:
    """Our scores in the original's layout. What has no verdict at all has dashes."""
    groups = {"all": record["all"]}
    groups.update({PREFIX + name: summary for name, summary in record["categories"].items()})
    rows = []
    for name in sorted(groups):
        scores = groups[name]["scores"] or (None, None)
        rows.append((name, *(_NOTHING if score is None else f"{score:.1f}" for score in scores)))
    return _table(rows)


def nemo_reviews(
    reviews: Iterable[Review], answer_ids: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """The lines of the original's `--output`, which its own and LLaVA's tools read.

    Args:
        answer_ids: by answer set's name, by question id.
    """
    records: list[dict[str, Any]] = []
    for review in reviews:
        if review["order"] != "as_given":
            continue
        key = id_key(review["question_id"])
        ids = [answer_ids[name].get(key or "", "") for name in review["shown"]]
        records.append(
            {
                "id": len(records) + 1,
                "question_id": review["question_id"],
                "answer1_id": ids[0],
                "answer2_id": ids[1],
                "category": PREFIX + review["category"],
                "content": review["content"] or "",
                "tuple": list(nemo_scores(review["content"])),
            }
        )
    return records


def answer_id(model: str, question_id: str, text: str) -> str:
    """The original draws one at random; here the same answer has the same one."""
    content = "\0".join((model, question_id, text))
    return hashlib.sha256(content.encode()).hexdigest()[:22]


def chunk(items: Sequence[Any], num_chunks: int, index: int) -> Sequence[Any]:
    """The `index`-th of `num_chunks` parts, divided as LLaVA's scripts do."""
    size = math.ceil(len(items) / num_chunks)
    return items[index * size : (index + 1) * size]


def _of_100(scores: Sequence[float]) -> float:
    mean = round(sum(scores) / len(scores), 3)
    return round(mean * 10, 1)


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join([*(" ".join(row) for row in rows), _RULE_LINE])
