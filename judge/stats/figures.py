"""All figures of a comparison's questions, or of one category's, from their scores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from judge.stats.estimate import Estimate, Pair, macro, ratio
from judge.stats.paired import sign_flip_p, smallest_difference


@dataclass(frozen=True, slots=True)
class Observation:
    """One judged question.

    Attributes:
        cluster: name of its video or image; a question without media is its own cluster.
        scores: of answer 1 and answer 2.
    """

    cluster: str
    category: str
    scores: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """What can be said about a set of questions, in the unit of the table.

    Attributes:
        means: of answer 1 and answer 2.
        difference: mean of answer 2 less that of answer 1.
        relative: 100 x mean of answer 2 / mean of answer 1.
        win_rate: of answer 2 in percent; a tie is half a win.
        p_value: of the paired permutation test that the answers are equally good.
        smallest_difference: true difference that is found significant in 80 % of cases.
    """

    num_clusters: int
    means: tuple[Estimate, Estimate] | None = None
    difference: Estimate | None = None
    relative: Estimate | None = None
    win_rate: Estimate | None = None
    p_value: float | None = None
    smallest_difference: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "num_clusters": self.num_clusters,
            "means": None if self.means is None else [m.to_json() for m in self.means],
            "difference": _json(self.difference),
            "relative": _json(self.relative),
            "win_rate": _json(self.win_rate),
            "p_value": None if self.p_value is None else round(self.p_value, 6),
            "smallest_difference": None
            if self.smallest_difference is None
            else round(self.smallest_difference, 4),
        }


@dataclass(frozen=True, slots=True)
class MacroFigures:
    """Means over categories of the categories' means: each category counts the same."""

    means: tuple[Estimate, Estimate]
    difference: Estimate

    def to_json(self) -> dict[str, Any]:
        means = [mean.to_json() for mean in self.means]
        return {"means": means, "difference": self.difference.to_json()}


def figures(observations: Sequence[Observation], unit: float, *, resample: bool = True) -> Figures:
    """The figures of `observations`.

    Args:
        unit: what one point of score is in the table: 10 for scores from 1 to 10.
        resample: False leaves out what takes resampling, p_value and se_bootstrap.
    """
    totals = _totals(observations)
    num = len(totals)

    def over(pairs: Iterable[Pair]) -> Estimate | None:
        return ratio(list(pairs), resample=resample)

    first = over((t.first, t.num) for t in totals)
    second = over((t.second, t.num) for t in totals)
    difference = over((t.second - t.first, t.num) for t in totals)
    win_rate = over((t.wins, t.num) for t in totals)
    relative = over((t.second, t.first) for t in totals)
    if first is None or second is None or difference is None or win_rate is None:
        return Figures(num)
    difference = difference.scaled(unit)
    return Figures(
        num_clusters=num,
        means=(first.scaled(unit), second.scaled(unit)),
        difference=difference,
        relative=None if relative is None else relative.scaled(100),
        win_rate=win_rate.scaled(100),
        p_value=sign_flip_p([t.second - t.first for t in totals]) if resample else None,
        smallest_difference=smallest_difference(difference.se, num),
    )


def macro_figures(observations: Sequence[Observation], unit: float) -> MacroFigures | None:
    """The macro averages, None without observations."""
    categories = sorted({observation.category for observation in observations})
    totals = [_totals([o for o in observations if o.category == name]) for name in categories]

    def over(top: Callable[[_Totals], float]) -> Estimate | None:
        pairs: list[list[Pair]] = [[(top(t), t.num) for t in group] for group in totals]
        return macro(pairs, [[t.cluster for t in group] for group in totals])

    first, second = over(lambda t: t.first), over(lambda t: t.second)
    difference = over(lambda t: t.second - t.first)
    if first is None or second is None or difference is None:
        return None
    return MacroFigures((first.scaled(unit), second.scaled(unit)), difference.scaled(unit))


@dataclass(slots=True)
class _Totals:
    """Sums over one cluster's questions."""

    cluster: str
    num: float = 0
    first: float = 0
    second: float = 0
    wins: float = 0


def _totals(observations: Iterable[Observation]) -> list[_Totals]:
    totals: dict[str, _Totals] = {}
    for observation in observations:
        held = totals.setdefault(observation.cluster, _Totals(observation.cluster))
        first, second = observation.scores
        held.num += 1
        held.first += first
        held.second += second
        held.wins += 0.5 + 0.5 * ((second > first) - (second < first))
    return list(totals.values())


def _json(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_json()
