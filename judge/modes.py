"""The four ways to judge, as data.

Whatever the mode, a question ends with one score for each of two answers, so that tables, intervals
and reports are the same for all:

    scores     both answers at once, each from 1 to 10 (LLaVA-bench)
    verdict    both at once: A, B or tie; a win is 1, a tie a half
    single     each answer alone, from 1 to 10, without a look at the other
    reference  answer 2 alone, correct or not by answer 1, which is the reference and so worth 1
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Mode(StrEnum):
    """How answers are judged."""

    SCORES = "scores"
    VERDICT = "verdict"
    SINGLE = "single"
    REFERENCE = "reference"


class Order(StrEnum):
    """Which answers the judge is shown, and in which order."""

    AS_GIVEN = "as_given"
    SWAPPED = "swapped"
    FIRST_ALONE = "first_alone"
    SECOND_ALONE = "second_alone"

    @property
    def sides(self) -> tuple[int, ...]:
        """The answers shown, 0 for answer 1."""
        return _SIDES[self]


_SIDES = {
    Order.AS_GIVEN: (0, 1),
    Order.SWAPPED: (1, 0),
    Order.FIRST_ALONE: (0,),
    Order.SECOND_ALONE: (1,),
}


@dataclass(frozen=True, slots=True)
class ModeTraits:
    """What differs between modes.

    Attributes:
        unit: what one point of score is in the tables: scores from 1 to 10 are told times ten, as
            LLaVA and NeMo do, wins and correct answers in percent.
        labels: what tells the answers apart in the message.
        rules: file of the project's own rubric, under conf/judge.
        schema: of the reply, for servers with structured output.
    """

    unit: float
    both_orders: tuple[Order, ...]
    one_order: tuple[Order, ...]
    labels: tuple[str, ...]
    rules: str
    schema: Mapping[str, Any]

    def orders(self, both: bool) -> tuple[Order, ...]:
        """The reviews that a question needs."""
        return self.both_orders if both else self.one_order


def _schema(**properties: Mapping[str, Any]) -> dict[str, Any]:
    # In this order: the verdict comes first, as in words; what was written can't be taken back.
    return {
        "type": "object",
        "properties": {**properties, "explanation": {"type": "string"}},
        "required": [*properties, "explanation"],
        "additionalProperties": False,
    }


_SCORE = {"type": "number", "minimum": 1, "maximum": 10}
_PAIR, _SWAPPED_TOO = (Order.AS_GIVEN,), (Order.AS_GIVEN, Order.SWAPPED)
_EACH, _ONLY_SECOND = (Order.FIRST_ALONE, Order.SECOND_ALONE), (Order.SECOND_ALONE,)

TRAITS: Mapping[Mode, ModeTraits] = {
    Mode.SCORES: ModeTraits(
        10,
        _SWAPPED_TOO,
        _PAIR,
        ("1", "2"),
        "rules.yaml",
        _schema(first=_SCORE, second=_SCORE),
    ),
    Mode.VERDICT: ModeTraits(
        100,
        _SWAPPED_TOO,
        _PAIR,
        ("A", "B"),
        "verdict.yaml",
        _schema(verdict={"type": "string", "enum": ["A", "B", "tie"]}),
    ),
    Mode.SINGLE: ModeTraits(10, _EACH, _EACH, ("",), "single.yaml", _schema(score=_SCORE)),
    Mode.REFERENCE: ModeTraits(
        100,
        _ONLY_SECOND,
        _ONLY_SECOND,
        ("",),
        "reference.yaml",
        _schema(correct={"type": "boolean"}),
    ),
}
