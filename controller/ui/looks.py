"""Looks that never fail for what can't be had: that is shown, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from controller.ui.page import jobs_section, problem_sections, run_sections
from controller.ui.source import Source
from controller.ui.view import JobLine, run_view
from controller.ui.watch import Look
from neva.errors import NevaError


def jobs_look(source: Source, max_age_s: float) -> Callable[[], Look]:
    """Looks at the list of jobs; a list that can't be had is the last one, and says so."""
    last: Sequence[JobLine] = ()

    def look() -> Look:
        nonlocal last
        if source.only_run is not None:
            return Look({"jobs": ""}, ended=True)
        try:
            last = source.lines(max_age_s)
        except NevaError as error:
            return Look(jobs_section(last, error.message))
        return Look(jobs_section(last))

    return look


def run_look(source: Source, run_id: str) -> Callable[[], Look]:
    """Looks at one job in full."""

    def look() -> Look:
        line = None
        try:
            line = source.line(run_id)
            seen = source.reader(run_id).see()
        except NevaError as error:
            return Look(problem_sections(run_id, error.message, line))
        return Look(run_sections(run_view(seen, run_id, line)), seen.status.phase.is_final)

    return look
