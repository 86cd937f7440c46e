"""The scores as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_DASH = "–"

UNITS: Mapping[str, str] = {
    "scores": "mean score x 10",
    "verdict": "wins in percent, a tie is half a win",
    "single": "mean score x 10, each answer judged alone",
    "reference": "correct answers in percent",
}
"""What the figures of each mode are."""


def scores_table(record: Mapping[str, Any]) -> RenderableType:
    """The table of what judge/scores.json holds: one row a category, the whole first."""
    first, second = (str(name) for name in record["answers"])
    judge = record["judge"]
    stand_in = ", a stand-in and no real judge" if judge["stand_in"] else ""
    table = Table(
        title=f"{escape(second)} against {escape(first)}",
        caption=f"{UNITS[record['mode']]}; win/tie/loss; agree: same preference in both orders\n"
        f"judged by {escape(judge['model'])}{stand_in}",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,  # fits 80 columns
    )
    table.add_column("category", no_wrap=True)
    for name in (first, second, "relative", "w/t/l", "judged", "failed", "agree"):
        table.add_column(
            escape(name), justify="right", overflow="fold", min_width=min(9, len(name))
        )
    _add_row(table, "all", record["all"])
    table.add_section()
    for name, summary in record["categories"].items():
        _add_row(table, name, summary)
    return Group(table, *_notes(record))


def _add_row(table: Table, name: str, summary: Mapping[str, Any]) -> None:
    scores = summary["scores"] or (None, None)
    failed = Text(str(summary["num_failed"]), style="bold red" if summary["num_failed"] else "")
    table.add_row(
        escape(name),
        *(_DASH if score is None else f"{score:.1f}" for score in scores),
        _DASH if summary["relative"] is None else f"{summary['relative']:.1f} %",
        f"{summary['num_wins']}/{summary['num_ties']}/{summary['num_losses']}",
        str(summary["num_judged"]),
        failed,
        agreement(summary),
    )


def agreement(summary: Mapping[str, Any]) -> str:
    """In how many of the questions judged both ways the verdict stayed the same."""
    if not summary["num_both_orders"]:
        return _DASH
    return f"{100 * summary['num_agreeing'] / summary['num_both_orders']:.0f} %"


def precision(record: Mapping[str, Any]) -> list[str]:
    """What the figures are worth, in sentences: interval, test, power, biases."""
    overall, sentences = record["all"], []
    found, second = overall["figures"], record["answers"][1]
    difference = found["difference"]
    if difference is not None and difference["se"]:
        words = f"{second}: {difference['value']:+.1f} points{_interval(difference)}"
        if found["p_value"] is not None:
            words += f", p = {found['p_value']:.2g}"
        sentences.append(words)
        sentences.append(
            f"{_counted(overall['num_judged'], 'question')} about "
            f"{_counted(found['num_clusters'], 'video or image', 'videos or images')} can show "
            f"differences above {found['smallest_difference']:.1f} points"
        )
    for what, words in (("first_wins", "shown first"), ("longer_wins", "that is longer")):
        share = record["bias"][what]
        if share["num"]:
            sentences.append(
                f"the answer {words} is preferred in {share['percent']:.0f} % of "
                f"{_counted(share['num'], 'decided review')}{_interval(share, '%')}"
            )
    return sentences


def _interval(estimate: Mapping[str, Any], unit: str = "") -> str:
    low, high = f"{estimate['low']:.1f}", f"{estimate['high']:.1f}"
    return f" (95 % interval {low} to {high}{f' {unit}' if unit else ''})"


def _counted(num: int, one: str, more: str | None = None) -> str:
    return f"{num} {one if num == 1 else more or one + 's'}"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:10]) + (", …" if len(ids) > 10 else "")


def _notes(record: Mapping[str, Any]) -> list[Text]:
    notes = [Text(sentence) for sentence in precision(record)]
    if record["failed_by_reason"]:
        reasons = ", ".join(f"{name} {n}" for name, n in record["failed_by_reason"].items())
        notes.append(Text(f"without a verdict, in no mean: {reasons}", style="red"))
    left_over = record["unmatched"]["contexts_without_question"]
    if left_over:
        words = _counted(len(left_over), "caption")
        notes.append(Text(f"{words} without question: {_some(left_over)}", style="yellow"))
    for name, ids in record["unmatched"]["answers"].items():
        for what, listed in ids.items():
            if listed:
                words = what.replace("_", " ")
                notes.append(
                    Text(f"{name}: {len(listed)} {words}: {_some(listed)}", style="yellow")
                )
    if record["problems"]:
        notes.append(Text(f"{len(record['problems'])} unusable input lines:", style="yellow"))
        for problem in record["problems"][:10]:
            place = f"{problem['source']}:{problem['line']}"
            notes.append(Text(f"  {place}: {problem['message']}", style="yellow"))
    return notes
