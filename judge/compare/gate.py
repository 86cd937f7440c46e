"""Thresholds for a judged run: read from YAML, checked one by one. Pure but for pydantic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from judge.compare.pairs import ALL, PairOfRuns
from judge.compare.runs import JudgedRun
from neva.errors import ConfigError
from neva.gate import Decision, all_of, fell_by_no_more, not_inferior, within

Metric = Literal["mean", "relative", "winRate", "failed"]


class Check(BaseModel):
    """One threshold. Figures are in the unit of the tables (points, percent)."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    metric: Metric
    category: str = ALL
    min: float | None = None
    max: float | None = None
    max_drop: float | None = Field(None, ge=0)
    non_inferiority_margin: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _says_one_thing(self) -> Check:
        kinds = [
            self.min is not None or self.max is not None,
            self.max_drop is not None,
            self.non_inferiority_margin is not None,
        ]
        if sum(kinds) != 1:
            raise ValueError("give min or max (or both), or maxDrop, or nonInferiorityMargin")
        if self.non_inferiority_margin is not None and self.metric != "mean":
            raise ValueError("nonInferiorityMargin is for the metric mean")
        return self

    @property
    def needs_baseline(self) -> bool:
        return self.max_drop is not None or self.non_inferiority_margin is not None


class Gate(BaseModel):
    """A gate file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checks: tuple[Check, ...] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Checked:
    """One threshold and what came of it."""

    what: str
    found: str
    decision: Decision


def parse_gate(data: bytes, source: str) -> Gate:
    """Read a gate file. Raises ConfigError with every wrong entry."""
    try:
        return Gate.model_validate(yaml.safe_load(data))
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: no YAML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        ]
        raise ConfigError("\n  ".join([f"{source}: {len(lines)} wrong", *lines])) from error


def check_all(
    gate: Gate, candidate: JudgedRun, pair: PairOfRuns | None
) -> tuple[Decision, tuple[Checked, ...]]:
    """Check a run.

    Args:
        pair: the run against its baseline; None if there is none.

    Raises:
        ConfigError: a check needs a baseline and there is none.
    """
    if pair is None and any(check.needs_baseline for check in gate.checks):
        raise ConfigError("maxDrop and nonInferiorityMargin need a --baseline")
    checked = tuple(_check(check, candidate, pair) for check in gate.checks)
    return all_of(one.decision for one in checked), checked


def _check(check: Check, candidate: JudgedRun, pair: PairOfRuns | None) -> Checked:
    where = "" if check.category == ALL else f" of {check.category}"
    now = _figure(candidate.scores, check)
    if check.non_inferiority_margin is not None and pair is not None:
        what = f"mean{where} loses less than {check.non_inferiority_margin:g}"
        row = pair.row(check.category)
        change = None if row is None else row.figures.difference
        if change is None or change.low is None or change.high is None:
            return Checked(what, "no interval", Decision.INCONCLUSIVE)
        found = f"{change.value:+.1f} ({change.low:+.1f} to {change.high:+.1f})"
        decision = not_inferior(change.low, change.high, check.non_inferiority_margin)
        return Checked(what, found, decision)
    if check.max_drop is not None and pair is not None:
        what = f"{check.metric}{where} falls by {check.max_drop:g} at most"
        before = _figure(pair.baseline.scores, check)
        if before is None or now is None:
            return Checked(what, "no figure", Decision.INCONCLUSIVE)
        if check.metric == "failed":  # more is worse
            before, now = -before, -now
        found = f"{abs(before):.1f} → {abs(now):.1f}"
        return Checked(what, found, fell_by_no_more(before, now, check.max_drop))
    what = f"{check.metric}{where} {' and '.join(_bounds(check))}"
    if now is None:
        return Checked(what, "no figure", Decision.INCONCLUSIVE)
    return Checked(what, f"{now:.1f}", within(now, check.min, check.max))


def _bounds(check: Check) -> Iterator[str]:
    if check.min is not None:
        yield f"≥ {check.min:g}"
    if check.max is not None:
        yield f"≤ {check.max:g}"


def _figure(scores: Any, check: Check) -> float | None:
    """A run's own figure; None when it has none."""
    summary = scores["all"] if check.category == ALL else scores["categories"].get(check.category)
    if summary is None:
        return None
    if check.metric == "failed":
        num = summary["num_questions"]
        return 100 * summary["num_failed"] / num if num else None
    if check.metric == "mean":
        means = summary["figures"]["means"]
        return None if means is None else float(means[1]["value"])
    estimate = summary["figures"]["relative" if check.metric == "relative" else "win_rate"]
    return None if estimate is None else float(estimate["value"])
