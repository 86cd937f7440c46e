"""The scores as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_DASH = "–"


def scores_table(record: Mapping[str, Any]) -> RenderableType:
    """The table of what judge/scores.json holds: one row a category, the whole first."""
    first, second = (str(name) for name in record["answers"])
    judge = record["judge"]
    stand_in = ", a stand-in and no real judge" if judge["stand_in"] else ""
    table = Table(
        title=f"{escape(second)} against {escape(first)}",
        caption="mean score x 10; win/tie/loss; agree: same preference in both orders\n"
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


def _notes(record: Mapping[str, Any]) -> list[Text]:
    notes: list[Text] = []
    if record["failed_by_reason"]:
        reasons = ", ".join(f"{name} {n}" for name, n in record["failed_by_reason"].items())
        notes.append(Text(f"without a verdict, in no mean: {reasons}", style="red"))
    for name, ids in record["unmatched"]["answers"].items():
        for what, listed in ids.items():
            if listed:
                shown = ", ".join(listed[:10]) + (", …" if len(listed) > 10 else "")
                words = what.replace("_", " ")
                notes.append(Text(f"{name}: {len(listed)} {words}: {shown}", style="yellow"))
    if record["problems"]:
        notes.append(Text(f"{len(record['problems'])} unusable input lines:", style="yellow"))
        for problem in record["problems"][:10]:
            place = f"{problem['source']}:{problem['line']}"
            notes.append(Text(f"  {place}: {problem['message']}", style="yellow"))
    return notes
