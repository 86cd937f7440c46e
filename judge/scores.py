"""From scores per question to the figures of a comparison. Pure.

Each question counts once: its score for an answer is the mean over the orders that gave a verdict.
Questions without any verdict are counted and kept out of every mean; the originals average their
-1 into it. The table's means and ratio are rounded as the originals do (three decimals, then times
ten with one), so that published tables compare; `figures` has them unrounded, with intervals.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from judge.modes import TRAITS, Mode
from judge.reviews import QuestionResult
from judge.stats.bias import Bias, Shown, bias
from judge.stats.figures import Figures, MacroFigures, Observation, figures, macro_figures


@dataclass(frozen=True, slots=True)
class QuestionScore:
    """One judged question.

    Attributes:
        scores: of answer 1 and answer 2, as the mode has them (`judge.modes`).
        orders_agree: whether both orders prefer the same answer (or neither prefers one); None
            when only one order has a verdict.
        cluster: the video or image asked about: questions about one are no independent evidence.
    """

    category: str
    scores: tuple[float, float]
    orders_agree: bool | None = None
    cluster: str = ""

    @property
    def observation(self) -> Observation:
        return Observation(self.cluster, self.category, self.scores)


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of one category, or of all questions.

    Attributes:
        scores: mean of each answer in the mode's unit (times ten for scores from 1 to 10), one
            decimal; None when nothing was judged.
        relative: 100 x mean of answer 2 / mean of answer 1, LLaVA's headline; one decimal.
        num_wins, num_ties, num_losses: of answer 2 against answer 1, by question.
        num_both_orders: questions with a verdict in both orders; in `num_agreeing` of them the
            verdicts prefer the same answer.
    """

    num_questions: int
    num_judged: int
    num_failed: int
    scores: tuple[float, float] | None
    relative: float | None
    num_wins: int
    num_ties: int
    num_losses: int
    num_both_orders: int
    num_agreeing: int
    figures: Figures

    def to_json(self) -> dict[str, Any]:
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "figures"}
        return {**plain, "figures": self.figures.to_json()}


@dataclass(frozen=True, slots=True)
class Scores:
    """All figures of a comparison.

    Attributes:
        overall: over all questions (each counts the same, whatever its category).
        categories: by name, sorted.
        macro: each category counts the same; None without a verdict.
        bias: what the judge prefers for no good reason.
        failed_by_reason: questions without a verdict.
    """

    overall: Summary
    categories: dict[str, Summary]
    macro: MacroFigures | None
    bias: Bias
    failed_by_reason: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "num_questions": self.overall.num_questions,
            "num_judged": self.overall.num_judged,
            "num_failed": self.overall.num_failed,
            "failed_by_reason": self.failed_by_reason,
            "all": self.overall.to_json(),
            "macro": None if self.macro is None else self.macro.to_json(),
            "categories": {name: summary.to_json() for name, summary in self.categories.items()},
            "bias": self.bias.to_json(),
        }


def score_question(result: QuestionResult) -> QuestionScore | None:
    """The score of one question: each answer's mean over the reviews that rate it. None when one
    of the answers has no rating."""
    given = [review.scores for review in result.reviews if review.scores is not None]
    sides = [[s for scores in given if (s := scores[side]) is not None] for side in (0, 1)]
    if not all(sides):
        return None
    pairs = [(one, two) for one, two in given if one is not None and two is not None]
    agree = None
    if len(pairs) > 1:
        agree = len({preference(scores) for scores in pairs}) == 1
    first, second = (math.fsum(scores) / len(scores) for scores in sides)
    question = result.question
    cluster = question.media if question.media is not None else f"question {question.key}"
    return QuestionScore(question.category, (first, second), agree, cluster)


def summarize(results: Sequence[QuestionResult], mode: Mode = Mode.SCORES) -> Scores:
    """The figures of a whole comparison."""
    unit = TRAITS[mode].unit
    scored = [(result.question.category, score_question(result)) for result in results]
    names = sorted({category for category, _ in scored})
    judged = [score.observation for _, score in scored if score is not None]
    return Scores(
        overall=_summary([score for _, score in scored], unit),
        categories={
            name: _summary([s for category, s in scored if category == name], unit)
            for name in names
        },
        macro=macro_figures(judged, unit),
        bias=bias([shown for result in results for shown in _shown(result)]),
        failed_by_reason=_failures(results),
    )


def _summary(everything: Sequence[QuestionScore | None], unit: float) -> Summary:
    judged = [score for score in everything if score is not None]
    preferences = Counter(preference(score.scores) for score in judged)
    in_both = [score for score in judged if score.orders_agree is not None]
    scores = relative = None
    if judged:
        first, second = (
            round(math.fsum(score.scores[side] for score in judged) / len(judged), 3)
            for side in (0, 1)
        )
        scores = (round(first * unit, 1), round(second * unit, 1))
        relative = round(100 * second / first, 1) if first else None
    return Summary(
        num_questions=len(everything),
        num_judged=len(judged),
        num_failed=len(everything) - len(judged),
        scores=scores,
        relative=relative,
        num_wins=preferences[1],
        num_ties=preferences[0],
        num_losses=preferences[-1],
        num_both_orders=len(in_both),
        num_agreeing=sum(score.orders_agree is True for score in in_both),
        figures=figures([score.observation for score in judged], unit),
    )


def preference(scores: tuple[float, float]) -> int:
    """1 when answer 2 is better, -1 when answer 1 is, 0 for a tie."""
    first, second = scores
    return (second > first) - (second < first)


def _shown(result: QuestionResult) -> Iterator[Shown]:
    """Its verdicts as the judge saw the answers. Of a question asked in both orders none if one
    failed: each answer must have been first as often."""
    if any(review.scores is None for review in result.reviews):
        return
    for review in result.reviews:
        sides, lengths = review.planned.order.sides, review.planned.lengths
        if review.scores is not None and len(sides) == 2:
            first, second = (review.scores[side] for side in sides)
            if first is not None and second is not None:
                yield Shown((first, second), (lengths[0], lengths[1]))


def _failures(results: Sequence[QuestionResult]) -> dict[str, int]:
    """Failed questions by reason; one with several failed reviews counts under the first's."""
    counts: Counter[str] = Counter()
    for result in results:
        if score_question(result) is not None:
            continue
        failures = [result.obstacle, *(review.failure for review in result.reviews)]
        counts.update([str(failure.reason) for failure in failures if failure is not None][:1])
    return dict(sorted(counts.items()))
