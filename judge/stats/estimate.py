"""A figure with what is known about its precision, from the totals of clusters.

Every figure of a comparison is a ratio of two sums over questions: a mean (scores by questions), a
difference, a relative score (scores by scores), a rate of wins. So one estimator serves all:
`ratio(pairs)` with a pair of totals for each cluster.

The standard error is the jackknife's, leaving out one cluster at a time; the interval is Student's
t with one degree of freedom less than clusters. In simulations of llava-bench's shape (60 questions
about 24 images, scores rounded and cut off at 10) such 95 % intervals cover the truth in 94 to 95 %
of cases (`make check-intervals`), where percentiles of a bootstrap would cover 90 to 93 %. The
bootstrap's standard error is told beside, as a second opinion.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from judge.stats.student import t_quantile

CONFIDENCE = 0.95
SEED = 20240619
_RESAMPLES = 1000
_MOST_DRAWS = 300_000  # per figure; with more clusters there are fewer resamples, 100 at least
_FEWEST_RESAMPLES = 100

Pair = tuple[float, float]
"""Numerator and denominator, summed over a cluster's questions."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure.

    Attributes:
        se: clustered standard error; None when there are fewer than two clusters.
        low, high: 95 % interval; None where there is no standard error.
        se_bootstrap: the same by resampling clusters, seeded.
    """

    value: float
    se: float | None = None
    low: float | None = None
    high: float | None = None
    se_bootstrap: float | None = None

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit."""

        def by(value: float | None) -> float | None:
            return None if value is None else value * factor

        return Estimate(
            self.value * factor, by(self.se), by(self.low), by(self.high), by(self.se_bootstrap)
        )

    def to_json(self) -> dict[str, Any]:
        def short(value: float | None) -> float | None:
            return None if value is None else round(value, 4)

        return {
            "value": short(self.value),
            "se": short(self.se),
            "low": short(self.low),
            "high": short(self.high),
            "se_bootstrap": short(self.se_bootstrap),
        }


def ratio(pairs: Sequence[Pair], *, resample: bool = True) -> Estimate | None:
    """Sum of numerators by sum of denominators; None when that is no number.

    Args:
        resample: whether to find the bootstrap's standard error, too.
    """
    top, bottom = (math.fsum(pair[side] for pair in pairs) for side in (0, 1))
    if bottom <= 0:
        return None
    value = top / bottom
    left_out: list[float] = []
    for one_top, one_bottom in pairs:
        if bottom - one_bottom <= 0:
            return Estimate(value)  # a single cluster holds everything
        left_out.append((top - one_top) / (bottom - one_bottom))
    return _with_interval(value, left_out, lambda: _bootstrap_se(pairs) if resample else None)


def macro(
    by_category: Sequence[Sequence[Pair]], cluster_of: Sequence[Sequence[str]]
) -> Estimate | None:
    """Mean over categories of each one's ratio: every category counts the same.

    Args:
        cluster_of: the cluster's name for each pair; one cluster may be in several categories.
    """
    sums = [[math.fsum(p[side] for p in pairs) for side in (0, 1)] for pairs in by_category]
    if not sums or any(bottom <= 0 for _, bottom in sums):
        return None
    value = math.fsum(top / bottom for top, bottom in sums) / len(sums)
    inside: dict[str, dict[int, Pair]] = {}
    for number, (pairs, names) in enumerate(zip(by_category, cluster_of, strict=True)):
        for pair, name in zip(pairs, names, strict=True):
            inside.setdefault(name, {})[number] = pair
    left_out: list[float] = []
    for held in inside.values():
        total = 0.0
        for number, (top, bottom) in enumerate(sums):
            one_top, one_bottom = held.get(number, (0.0, 0.0))
            if bottom - one_bottom <= 0:
                return Estimate(value)
            total += (top - one_top) / (bottom - one_bottom)
        left_out.append(total / len(sums))
    return _with_interval(value, left_out, lambda: None)


def _with_interval(
    value: float, left_out: Sequence[float], bootstrap: Callable[[], float | None]
) -> Estimate:
    num_clusters = len(left_out)
    if num_clusters < 2:
        return Estimate(value)
    mean = math.fsum(left_out) / num_clusters
    spread = math.fsum((one - mean) ** 2 for one in left_out)
    se = math.sqrt(spread * (num_clusters - 1) / num_clusters)
    reach = t_quantile((1 + CONFIDENCE) / 2, num_clusters - 1) * se
    return Estimate(value, se, value - reach, value + reach, bootstrap())


def _bootstrap_se(pairs: Sequence[Pair]) -> float | None:
    draw = random.Random(SEED)
    num = len(pairs)
    values: list[float] = []
    for _ in range(min(_RESAMPLES, max(_FEWEST_RESAMPLES, _MOST_DRAWS // num))):
        drawn = draw.choices(pairs, k=num)
        bottom = sum(pair[1] for pair in drawn)
        if bottom > 0:
            values.append(sum(pair[0] for pair in drawn) / bottom)
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
