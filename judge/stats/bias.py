"""What a judge prefers for no good reason: the answer shown first, or the longer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judge.stats.paired import wilson


@dataclass(frozen=True, slots=True)
class Shown:
    """One verdict on two answers, in the order they were shown in.

    Attributes:
        lengths: of the answers, in characters.
    """

    scores: tuple[float, float]
    lengths: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Share:
    """`num_yes` of `num`, in percent with its 95 % interval (Wilson)."""

    num_yes: int
    num: int

    def to_json(self) -> dict[str, Any]:
        interval = wilson(self.num_yes, self.num)
        return {
            "num_yes": self.num_yes,
            "num": self.num,
            "percent": round(100 * self.num_yes / self.num, 2) if self.num else None,
            "low": None if interval is None else round(100 * interval[0], 2),
            "high": None if interval is None else round(100 * interval[1], 2),
        }


@dataclass(frozen=True, slots=True)
class Bias:
    """Ties say nothing about a preference and are left out.

    Attributes:
        first_wins: reviews that prefer the answer shown first. Asked in both orders, an unbiased
            judge has 50 %; asked in one, it may also be the better one.
        longer_wins: reviews that prefer the longer answer, of those with unequal lengths.
    """

    first_wins: Share
    longer_wins: Share

    def to_json(self) -> dict[str, Any]:
        return {"first_wins": self.first_wins.to_json(), "longer_wins": self.longer_wins.to_json()}


def bias(reviews: Sequence[Shown]) -> Bias:
    """The biases that show in `reviews`."""
    decided = [review for review in reviews if review.scores[0] != review.scores[1]]
    unequal = [review for review in decided if review.lengths[0] != review.lengths[1]]
    return Bias(
        Share(sum(_first_wins(review) for review in decided), len(decided)),
        Share(sum(_longer_wins(review) for review in unequal), len(unequal)),
    )


def _first_wins(review: Shown) -> bool:
    return review.scores[0] > review.scores[1]


def _longer_wins(review: Shown) -> bool:
    return _first_wins(review) == (review.lengths[0] > review.lengths[1])
