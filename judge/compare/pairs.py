"""Two runs' scores, question by question. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from judge.compare.runs import JudgedRun
from judge.stats.figures import Figures, Observation, figures

ALL = "all"


@dataclass(frozen=True, slots=True)
class Row:
    """One category, or all questions: a run against the baseline.

    Attributes:
        num: questions that have a score in both runs; only they count.
    """

    category: str
    num: int
    num_wins: int
    num_ties: int
    num_losses: int
    figures: Figures


@dataclass(frozen=True, slots=True)
class PairOfRuns:
    """A run against the baseline.

    Attributes:
        only_baseline, only_candidate: questions that have a score in one of them alone.
        doubts: why the two may not be comparable.
    """

    baseline: JudgedRun
    candidate: JudgedRun
    rows: tuple[Row, ...]
    only_baseline: int
    only_candidate: int
    doubts: tuple[str, ...]

    def row(self, category: str) -> Row | None:
        return next((row for row in self.rows if row.category == category), None)


def pair_up(baseline: JudgedRun, candidate: JudgedRun) -> PairOfRuns:
    """Join two runs by question id."""
    both = [key for key in baseline.questions if key in candidate.questions]
    observations = [
        Observation(
            baseline.questions[key].cluster,
            baseline.questions[key].category,
            (baseline.questions[key].score, candidate.questions[key].score),
        )
        for key in both
    ]
    categories = sorted({o.category for o in observations})
    rows = [_row(ALL, observations, baseline.unit)]
    rows += [
        _row(name, [o for o in observations if o.category == name], baseline.unit)
        for name in categories
    ]
    return PairOfRuns(
        baseline,
        candidate,
        tuple(rows),
        len(baseline.questions) - len(both),
        len(candidate.questions) - len(both),
        tuple(_doubts(baseline, candidate)),
    )


def as_dict(pair: PairOfRuns) -> dict[str, Any]:
    """For `-o json|yaml`."""
    return {
        "baseline": pair.baseline.name,
        "candidate": pair.candidate.name,
        "rows": [
            {
                "category": row.category,
                "questions": row.num,
                "wins": row.num_wins,
                "ties": row.num_ties,
                "losses": row.num_losses,
                **row.figures.to_json(),
            }
            for row in pair.rows
        ],
        "only_baseline": pair.only_baseline,
        "only_candidate": pair.only_candidate,
        "doubts": list(pair.doubts),
    }


def _row(category: str, observations: Sequence[Observation], unit: float) -> Row:
    signs = [(o.scores[1] > o.scores[0]) - (o.scores[1] < o.scores[0]) for o in observations]
    return Row(
        category,
        len(observations),
        signs.count(1),
        signs.count(0),
        signs.count(-1),
        figures(observations, unit),
    )


def _doubts(baseline: JudgedRun, candidate: JudgedRun) -> list[str]:
    one, other = baseline.scores, candidate.scores
    found: list[str] = []
    what = {
        "mode": (one["mode"], other["mode"]),
        "judge": (one["judge"]["model"], other["judge"]["model"]),
        "model behind the judge's name": (
            ", ".join(one["judge"]["served_models"]),
            ", ".join(other["judge"]["served_models"]),
        ),
        "rubric": (one["judge"]["rules_digest"][:12], other["judge"]["rules_digest"][:12]),
        "orders asked": (one["judge"]["both_orders"], other["judge"]["both_orders"]),
        "reference": (one["answers"][0], other["answers"][0]),
    }
    for name, (before, now) in what.items():
        if before != now:
            found.append(f"{name}: {before} in {baseline.name}, {now} in {candidate.name}")
    return found
