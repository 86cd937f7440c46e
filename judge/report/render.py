"""Renders `report.html`.

One file, no network: pictures are data URIs, and the content security policy allows exactly them,
this page's own style sheet and its own program, by their hashes. Texts in the page's frame are
escaped by Jinja's autoescape. Rows are JSON in blocks that no browser executes, 50 rows a block, so
that a page of ten thousand opens at once; the program puts them in as text, never as HTML.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from typing import Any

import orjson
from jinja2 import Environment
from markupsafe import Markup

from judge.report.charts import dumbbell, outcome_bar, scale_of
from judge.report.data import load_report
from judge.report.views import Record, Report
from judge.table import UNITS, agreement, precision
from neva.ledger import layout
from neva.pages import base_style, page_environment, page_file
from neva.store.base import Store

ROWS_A_BLOCK = 50
_PACKAGE = "judge.report"


def write_report(store: Store, name: str | None = None) -> str:
    """Write `report.html` for the run under `store`; returns its URI. Raises as `load_report`."""
    store.put(layout.REPORT, render_report(load_report(store, name)).encode())
    return store.uri_of(layout.REPORT)


def render_report(report: Report) -> str:
    """The whole page. Pure."""
    style = base_style() + page_file(_PACKAGE, "report.css")
    program = page_file(_PACKAGE, "report.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(program)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("report.html.j2")
    rows = report.rows
    index = [[r["id"], r["c"], r["o"], r["d"], r["g"], _state(r)] for r in rows]
    blocks = [_data(rows[at : at + ROWS_A_BLOCK]) for at in range(0, len(rows), ROWS_A_BLOCK)]
    return template.render(
        report=report,
        style=Markup(style),
        program=Markup(program),
        policy=policy,
        categories=sorted({row["c"] for row in rows if row["c"] is not None}),
        index=_data({"rows": index, "rowsABlock": ROWS_A_BLOCK}),
        blocks=blocks,
        frames={name: _data(uri) for name, uri in report.frames.items()},
    )


def _state(row: Record) -> str:
    """What a row lacks, for the filter."""
    if any(text is None or not text.strip() for _, _, text, _ in row["a"]):
        return "unanswered"
    return "unjudged" if row["v"] and row["o"] is None else ""


def _data(value: Any) -> Markup:
    """JSON that can't end the element it stands in."""
    text = orjson.dumps(value).decode()
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = page_environment(_PACKAGE)
    environment.globals.update(
        dumbbell=dumbbell,
        outcome_bar=outcome_bar,
        agreement=agreement,
        precision=precision,
        scale_of=scale_of,
        units=UNITS,
    )
    environment.filters.update(seconds=_seconds)
    return environment


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"
