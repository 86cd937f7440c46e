from __future__ import annotations

import math
from typing import Any

import pytest

from judge.nemo_compat import chunk, nemo_reviews, nemo_scores, nemo_table

GOLDEN = [
    ("conv", "8 6"),
    ("conv", "9 8"),
    ("detail", "7 7"),
    ("complex", "10 5"),
    ("complex", "9 9.5"),
]


def reviews(*cases: tuple[str, str | None]) -> list[dict[str, Any]]:
    return [
        {
            "question_id": number,
            "category": category,
            "order": "as_given",
            "content": content,
            "shown": ["gpt", "bard"],
        }
        for number, (category, content) in enumerate(cases)
    ]


def test_the_originals_table_to_the_letter() -> None:
    assert nemo_table(reviews(*GOLDEN)) == (
        "all 86.0 71.0\n"
        "llava_bench_complex 95.0 72.5\n"
        "llava_bench_conv 85.0 70.0\n"
        "llava_bench_detail 70.0 70.0\n"
        "================================="
    )


@pytest.mark.parametrize("failed", [None, "", "sorry", "8 7 6"])
def test_the_original_averages_failures_in(failed: str | None) -> None:
    assert nemo_table(reviews(*GOLDEN, ("detail", failed))).startswith("all 70.0 57.5\n")


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8, 7\nwords", (8, 7)),
        ("15 -3", (15, -3)),
        ("\n8 7", (-1, -1)),
        ("8/10 7/10", (-1, -1)),
        ("8 7 6", (-1, -1)),
        (None, (-1, -1)),
    ],
)
def test_replies_are_read_as_the_original_does(
    reply: str | None, scores: tuple[float, float]
) -> None:
    assert nemo_scores(reply) == scores


def test_not_a_number_is_a_score_there() -> None:
    assert math.isnan(nemo_scores("nan 7")[0])


def test_the_swapped_order_is_unknown_there() -> None:
    both = [*reviews(("conv", "8 6")), {**reviews(("conv", "1 9"))[0], "order": "swapped"}]
    assert nemo_table(both).startswith("all 80.0 60.0\n")
    records = nemo_reviews(both, {"gpt": {"0": "x"}, "bard": {"0": "y"}})
    assert records == [
        {
            "id": 1,
            "question_id": 0,
            "answer1_id": "x",
            "answer2_id": "y",
            "category": "llava_bench_conv",
            "content": "8 6",
            "tuple": [8.0, 6.0],
        }
    ]


def test_chunks_are_those_of_llava() -> None:
    assert [list(chunk(range(7), 3, k)) for k in range(4)] == [[0, 1, 2], [3, 4, 5], [6], []]
