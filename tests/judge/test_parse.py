from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.parse import NoVerdict, Verdict, parse_verdict


@pytest.mark.parametrize(
    ("reply", "scores"),
    [
        ("8 7", (8, 7)),
        ("8, 7", (8, 7)),
        ("8,7\nBoth answers …", (8, 7)),
        ("8.5 9.0", (8.5, 9)),
        ("8/10 7/10", (8, 7)),
        ("8/10, 7.5 / 10\nbecause", (8, 7.5)),
        ("\n  10 1  \nwords", (10, 1)),
        ("9\t8", (9, 8)),
        ("9 8.", (9, 8)),
    ],
)
def test_two_scores_on_the_first_line_are_a_verdict(
    reply: str, scores: tuple[float, float]
) -> None:
    assert parse_verdict(reply) == Verdict(*scores)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t",
        "8 7 6",
        "8",
        "nan 7",
        "inf 7",
        "15 -3",
        "15 3",
        "0 5",
        "0.9 5",
        "10.1 5",
        "-1 -1",
        "8/5 7/5",
        "8,5 9,0",
        "1e1 5",
        "٨ ٧",
        "Assistant 1 is better\n8 7",
    ],
)
def test_anything_else_is_no_verdict(reply: str) -> None:
    assert isinstance(parse_verdict(reply), NoVerdict)


@given(st.text())
def test_no_reply_breaks_the_parser(reply: str) -> None:
    verdict = parse_verdict(reply)
    if isinstance(verdict, Verdict):
        assert 1 <= verdict.first <= 10
        assert 1 <= verdict.second <= 10
