"""HTML of the live view: a page, and its sections one by one, which is what is sent again.

Every text is escaped by Jinja's autoescape. The page holds no program and no style of its own, so
that the content security policy allows none: `POLICY` takes only what this server serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup, escape

from controller.ui.view import JobLine, RunView
from neva.pages import base_style, page_environment, page_file

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report is a file of the run's: whoever could write it must not speak in this page's name.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
RUN_SECTIONS = ("head", "stages", "chart", "failures", "answers", "about")
_MOST_JOBS = 200
_PACKAGE = "controller.ui"

Sections = Mapping[str, str]


def jobs_section(lines: Sequence[JobLine], problem: str = "") -> dict[str, str]:
    """The list of jobs, as far as a person reads it.

    Args:
        problem: why it is not fresh.
    """
    shown = lines[:_MOST_JOBS]
    return {"jobs": _macro("jobs", shown, len(lines) - len(shown), problem)}


def run_sections(view: RunView) -> dict[str, str]:
    return {name: _macro(name, view) for name in RUN_SECTIONS}


def problem_sections(name: str, problem: str, line: JobLine | None = None) -> dict[str, str]:
    """Of a job whose output can't be read now."""
    head = _macro("problem", name, problem, line)
    return {section: "" for section in RUN_SECTIONS} | {"head": head}


def page(title: str, run_id: str, sections: Sections) -> str:
    """The whole page; `sections` may lack those that aren't known yet.

    Args:
        run_id: the job that is shown in full, before the list; "": the list alone.
    """
    names = (*RUN_SECTIONS, "jobs") if run_id else ("jobs",)
    filled = {name: Markup(sections.get(name, "")) for name in names}
    return (
        _environment().get_template("page.html.j2").render(title=title, run=run_id, sections=filled)
    )


def style() -> str:
    return base_style() + page_file(_PACKAGE, "ui.css")


def program() -> str:
    return page_file(_PACKAGE, "ui.js")


def icon() -> str:
    return page_file(_PACKAGE, "icon.svg")


def code_marked(text: str) -> Markup:
    """`text`, its parts between backticks as code."""
    parts = (
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def _macro(name: str, *arguments: object) -> str:
    macro = getattr(_environment().get_template("sections.html.j2").module, name)
    return str(macro(*arguments)).strip()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = page_environment(_PACKAGE)
    environment.filters.update(code_marked=code_marked, as_query=lambda text: quote(text, safe=""))
    return environment
