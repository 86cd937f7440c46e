"""Comparisons and gates as Markdown, for a pull request and as well for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from judge.compare.gate import Checked
from judge.compare.pairs import PairOfRuns, Row
from judge.stats.estimate import Estimate
from neva.gate import Decision

_DASH = "–"
_SIGNIFICANT = 0.05
_MARKS = {Decision.GO: "✅", Decision.NO_GO: "❌", Decision.INCONCLUSIVE: "❔"}


def comparison_markdown(pair: PairOfRuns) -> str:
    """One run against the baseline."""
    one, other = _cell(pair.baseline.name), _cell(pair.candidate.name)
    lines = [
        f"### {other} against {one}",
        "",
        f"| category | {one} | {other} | difference (95 %) | p | win/tie/loss | questions |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(_row(row) for row in pair.rows),
        "",
    ]
    overall = pair.rows[0]
    if overall.figures.smallest_difference is not None:
        lines.append(
            f"{overall.num} questions about {overall.figures.num_clusters} videos or images can "
            f"show differences above {overall.figures.smallest_difference:.1f}."
        )
    for name, num in ((one, pair.only_baseline), (other, pair.only_candidate)):
        if num:
            lines.append(f"{num} questions have a score in {name} alone and are left out.")
    for doubt in pair.doubts:
        lines.append(f"**Not the same conditions**: {_cell(doubt)}.")
    return "\n".join(lines).rstrip() + "\n"


def gate_markdown(decision: Decision, checked: Sequence[Checked]) -> str:
    """The gate's verdict and its checks."""
    return "\n".join(
        [
            f"## Gate: {decision}",
            "",
            "| check | found | |",
            "|---|--:|---|",
            *map(_check, checked),
            "",
        ]
    )


def _check(one: Checked) -> str:
    return f"| {_cell(one.what)} | {_cell(one.found)} | {_MARKS[one.decision]} {one.decision} |"


def _row(row: Row) -> str:
    found = row.figures
    means = found.means or (None, None)
    p = found.p_value
    marked = p is not None and p < _SIGNIFICANT
    p_text = _DASH if p is None else f"{p:.2g}"
    cells = [
        f"**{row.category}**" if row.category == "all" else _cell(row.category),
        *(_DASH if mean is None else f"{mean.value:.1f}" for mean in means),
        _difference(found.difference),
        f"**{p_text}**" if marked else p_text,
        f"{row.num_wins}/{row.num_ties}/{row.num_losses}",
        str(row.num),
    ]
    return f"| {' | '.join(cells)} |"


def _difference(estimate: Estimate | None) -> str:
    if estimate is None:
        return _DASH
    text = f"{estimate.value:+.1f}"
    if estimate.low is None or estimate.high is None:
        return text
    return f"{text} ({estimate.low:+.1f} to {estimate.high:+.1f})"


def _cell(text: str) -> str:
    """`text` that can't end its cell, its line or its table, nor be HTML."""
    plain = " ".join(text.split()).replace("\\", "\\\\")
    return plain.replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`").replace("*", "\\*")
