from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge.modes import Mode
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
    assert parse_verdict(reply) == Verdict(scores)


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


scores = st.one_of(
    st.integers(1, 10).map(float), st.integers(10, 100).map(lambda tenths: tenths / 10)
)


@given(
    first=scores,
    second=scores,
    separator=st.sampled_from([" ", ",", ", ", "  ", "\t", " , "]),
    rest=st.text().map(lambda text: f"\n{text}") | st.just(""),
)
def test_any_two_scores_in_range_are_read_whatever_stands_below(
    first: float, second: float, separator: str, rest: str
) -> None:
    assert parse_verdict(f"{first:g}{separator}{second:g}{rest}") == Verdict((first, second))


@given(
    numbers=st.lists(st.floats(-100, 100).map(lambda x: round(x, 1)), max_size=4),
    separator=st.sampled_from([" ", ", "]),
)
def test_lines_of_another_count_or_range_are_no_verdict(
    numbers: list[float], separator: str
) -> None:
    found = parse_verdict(separator.join(f"{number:g}" for number in numbers))
    is_fine = len(numbers) == 2 and all(1 <= number <= 10 for number in numbers)
    assert isinstance(found, Verdict) == is_fine


@given(st.text())
def test_no_reply_breaks_the_parser(reply: str) -> None:
    verdict = parse_verdict(reply)
    if isinstance(verdict, Verdict):
        assert all(1 <= score <= 10 for score in verdict.scores)


_FILE = Path(__file__).with_name("wild_replies.jsonl")
WILD = [orjson.loads(line) for line in _FILE.read_bytes().splitlines()]


@pytest.mark.parametrize("case", WILD, ids=lambda case: repr(case["reply"][:30]))
def test_what_judges_write_is_read_where_it_has_one_meaning(case: dict[str, Any]) -> None:
    found = parse_verdict(case["reply"], Mode(case["mode"]))
    assert (list(found.scores) if isinstance(found, Verdict) else None) == case["scores"]


def test_there_are_a_hundred_wild_replies() -> None:
    assert len(WILD) >= 100


@given(st.sampled_from(Mode), st.text(alphabet="0129/ ,.:{}[]*\"'\nABabtiecorsn", max_size=40))
def test_no_reply_breaks_any_modes_parser(mode: Mode, reply: str) -> None:
    parse_verdict(reply, mode)
