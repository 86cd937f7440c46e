"""Runs named by their folders or output URIs: the ledger alone tells about them."""

from __future__ import annotations

from collections.abc import Sequence

from controller.ui.reader import RunReader
from controller.ui.source import NoSuchJob
from controller.ui.view import JobLine, job_line
from neva.errors import ConfigError, NevaError

UNREADABLE = "Unreadable"


class LocalRuns:
    """The runs under some URIs, in the order given."""

    on_cluster = False

    def __init__(self, uris: Sequence[str]) -> None:
        self._readers: dict[str, RunReader] = {}
        for uri in uris:
            reader = RunReader(uri)
            if any(reader.uri == known.uri for known in self._readers.values()):
                continue
            self._readers[self._free_id(reader.uri)] = reader

    @property
    def only_run(self) -> str | None:
        return next(iter(self._readers)) if len(self._readers) == 1 else None

    def lines(self, max_age_s: float) -> Sequence[JobLine]:
        return [self._line(run_id, max_age_s) for run_id in self._readers]

    def line(self, run_id: str) -> JobLine | None:
        self.reader(run_id)
        return None  # the look at the run itself tells

    def reader(self, run_id: str) -> RunReader:
        if run_id not in self._readers:
            raise NoSuchJob(f"no run is called {run_id!r} here")
        return self._readers[run_id]

    def _line(self, run_id: str, max_age_s: float) -> JobLine:
        reader = self._readers[run_id]
        try:
            return job_line(reader.status(max_age_s), run_id)
        except ConfigError as error:
            # A run that begins in a moment, or a wrong name.
            return JobLine(run_id, run_id, reader.uri, "Pending", note=error.message)
        except NevaError as error:
            return JobLine(run_id, run_id, reader.uri, UNREADABLE, note=error.message)

    def _free_id(self, uri: str) -> str:
        """The last name in the URI, with a number behind it if another run has that."""
        name = uri.rstrip("/").rpartition("/")[2] or "run"
        taken, number, run_id = self._readers, 1, name
        while run_id in taken:
            number += 1
            run_id = f"{name}-{number}"
        return run_id
