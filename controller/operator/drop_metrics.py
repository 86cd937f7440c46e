"""What is exported of drop folders. Pure.

The label is `folder`, `<namespace>/<name>`: Prometheus has a `namespace` of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from controller.operator.health import Metric, Samples
from controller.operator.world import Key
from neva.conditions import Phase


@dataclass(frozen=True, slots=True)
class FolderFigures:
    """One folder, as its last turn left it.

    Attributes:
        seen: files and closed folders that make jobs, at the last listing.
        settling: those that still change; waiting: those without a free slot.
        refused: those that make no valid job.
        started: jobs made since the process began, or since the folder's spec changed.
        phases: of its jobs that are still in the cluster.
        polled_s: when it was last listed, seconds since the epoch; None: not yet.
        failing: the last turn could not do everything.
    """

    seen: int
    settling: int
    waiting: int
    refused: int
    started: int
    phases: Collection[str]
    polled_s: float | None
    failing: bool


def folder_metrics(folders: Mapping[Key, FolderFigures]) -> dict[str, Metric]:
    """Metrics by name."""
    named = {"/".join(key): figures for key, figures in sorted(folders.items())}

    def each(attribute: str) -> Samples:
        return [({"folder": n}, float(getattr(f, attribute))) for n, f in named.items()]

    polled = [({"folder": n}, f.polled_s) for n, f in named.items() if f.polled_s is not None]
    jobs = [
        ({"folder": name, "state": state}, number)
        for name, figures in named.items()
        for state, number in _states(figures.phases).items()
    ]
    return {
        "neva_drop_folder_files": ("gauge", "Drops at the last listing.", each("seen")),
        "neva_drop_folder_files_settling": ("gauge", "Drops that change.", each("settling")),
        "neva_drop_folder_files_waiting": ("gauge", "Drops without a slot.", each("waiting")),
        "neva_drop_folder_files_refused": ("gauge", "Drops that make no job.", each("refused")),
        "neva_drop_folder_jobs_started_total": ("counter", "Jobs made.", each("started")),
        "neva_drop_folder_jobs": ("gauge", "Jobs that are still there.", jobs),
        "neva_drop_folder_last_poll_timestamp_seconds": ("gauge", "Last listing.", polled),
        "neva_drop_folder_failing": ("gauge", "The last look failed.", each("failing")),
    }


def _states(phases: Collection[str]) -> dict[str, int]:
    succeeded = sum(phase == Phase.SUCCEEDED for phase in phases)
    failed = sum(phase == Phase.FAILED for phase in phases)
    active = len(phases) - succeeded - failed
    return {"active": active, "succeeded": succeeded, "failed": failed}
