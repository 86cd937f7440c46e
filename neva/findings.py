"""What `neva doctor` finds: one line for each part that a job relies on.

Each role looks after its own parts in a module with a function `examine(job)`, which yields
findings; the command asks them all (`controller.doctor.cli`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from neva.errors import NevaError


class Verdict(StrEnum):
    """How a part is."""

    OK = "ok"
    PROBLEM = "problem"
    SKIPPED = "skipped"  # it does not apply here, or can't be looked at from here


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        part: what was looked at.
        found: in one line.
        advice: what to do about a problem; "" where `found` says it.
    """

    part: str
    verdict: Verdict
    found: str
    advice: str = ""

    @property
    def words(self) -> str:
        advice = f"; {self.advice}" if self.advice else ""
        return f"{self.verdict:<8} {self.part:<14} {self.found}{advice}"


def ok(part: str, found: str) -> Finding:
    return Finding(part, Verdict.OK, found)


def skipped(part: str, why: str) -> Finding:
    return Finding(part, Verdict.SKIPPED, why)


def problem(part: str, found: str, advice: str = "") -> Finding:
    return Finding(part, Verdict.PROBLEM, " ".join(found.split()), advice)


@contextmanager
def errors_as_findings(part: str, into: list[Finding], advice: str = "") -> Iterator[None]:
    """What is raised in the block is a problem of the part; its message names the way out."""
    try:
        yield
    except NevaError as error:
        into.append(problem(part, f"{error.message} ({error.reason})", advice))
