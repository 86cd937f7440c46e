"""Renders `report.html`.

One file, no script, no network: pictures are data URIs, and the content security policy allows
exactly them and this page's own style sheet, by its hash. Every text is escaped by Jinja's
autoescape; only the style sheet, which is ours, is not.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from judge.report.charts import dumbbell, outcome_bar
from judge.report.data import load_report
from judge.report.views import Report
from judge.table import agreement
from neva.ledger import layout
from neva.store.base import Store


def write_report(store: Store, name: str | None = None) -> str:
    """Write `report.html` for the run under `store`; returns its URI. Raises ConfigError."""
    store.put(layout.REPORT, render_report(load_report(store, name)).encode())
    return store.uri_of(layout.REPORT)


def render_report(report: Report) -> str:
    """The whole page. Pure."""
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    template = _environment().get_template("report.html.j2")
    return template.render(report=report, style=Markup(style), policy=policy)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("judge.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(dumbbell=dumbbell, outcome_bar=outcome_bar, agreement=agreement)
    environment.filters.update(score=_score, seconds=_seconds)
    return environment


@lru_cache(maxsize=1)
def _style() -> str:
    source, _, _ = PackageLoader("judge.report", "templates").get_source(
        Environment(autoescape=True), "report.css"
    )
    return source


def _score(value: float | None) -> str:
    """A score with as many decimals as it has, one at most: 8, 8.5."""
    return "–" if value is None else f"{value:.1f}".removesuffix(".0")


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60)} s"
