"""From a judge's words to two scores, or to the reason why there are none. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

MIN_SCORE, MAX_SCORE = 1.0, 10.0

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)(?:\s*/\s*10(?:\.0+)?)?"
_TWO_SCORES = re.compile(rf"{_NUMBER}(?:\s*,\s*|\s+){_NUMBER}\s*\.?")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores of the answers in the order they were shown, each from 1 to 10."""

    first: float
    second: float


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why a reply holds no verdict, for the user."""

    why: str


def parse_verdict(reply: str) -> Verdict | NoVerdict:
    """Read the first line of a reply: two numbers, separated by spaces or a comma.

    The rule of LLaVA's and NeMo's scripts, which also take three numbers, `nan` or 15 for a score
    or for -1; here those are no verdict. `8/10 7/10` is accepted, any other denominator is not,
    because its scale is unknown.
    """
    text = reply.strip()
    if not text:
        return NoVerdict("the judge's reply is empty")
    line = text.splitlines()[0].strip()
    match = _TWO_SCORES.fullmatch(line)
    if match is None:
        return NoVerdict(f"the reply's first line holds no two scores: {_shortened(line)}")
    first, second = float(match.group(1)), float(match.group(2))
    if not all(MIN_SCORE <= score <= MAX_SCORE for score in (first, second)):
        return NoVerdict(f"a score is out of 1 to 10: {_shortened(line)}")
    return Verdict(first, second)


def _shortened(line: str, most: int = 80) -> str:
    return repr(line if len(line) <= most else line[: most - 1] + "…")
