"""Where jobs are found: run folders, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from controller.ui.reader import RunReader
from controller.ui.view import JobLine
from neva.errors import ConfigError


class NoSuchJob(ConfigError):
    """No job has this id, or none has it any more."""


class Source(Protocol):
    """Jobs that can be shown. Methods block, and may be called from several threads."""

    @property
    def on_cluster(self) -> bool:
        """A controller looks after the jobs, and says what state they are in."""
        ...

    @property
    def only_run(self) -> str | None:
        """The id of the one job that there will ever be; None where there may be others."""
        ...

    def lines(self, max_age_s: float) -> Sequence[JobLine]:
        """All jobs, those first that people look for first; by looks that are not older.

        Raises NevaError when the list can't be had.
        """
        ...

    def line(self, run_id: str) -> JobLine | None:
        """A job as it was last seen. Raises NoSuchJob."""
        ...

    def reader(self, run_id: str) -> RunReader:
        """What reads a job's output.

        Raises NoSuchJob, or ConfigError when its output isn't one to be read from here.
        """
        ...
