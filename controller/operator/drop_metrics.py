"""What is exported of drop folders. Pure.

The label is `folder`, `<namespace>/<name>`: Prometheus has a `namespace` of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from controller.operator.world import Key
from neva.conditions import Phase
from neva.metrics import of_operator as metrics
from neva.metrics.base import Sample


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
        conditions: type, status and reason of each, as written.
    """

    seen: int
    settling: int
    waiting: int
    refused: int
    started: int
    phases: Collection[str]
    polled_s: float | None
    failing: bool
    conditions: Collection[tuple[str, str, str]] = ()


def folder_samples(folders: Mapping[Key, FolderFigures]) -> Iterator[Sample]:
    """Each folder's series."""
    for key, figures in sorted(folders.items()):
        folder = "/".join(key)
        for metric, value in (
            (metrics.FOLDER_FILES, figures.seen),
            (metrics.FOLDER_SETTLING, figures.settling),
            (metrics.FOLDER_WAITING, figures.waiting),
            (metrics.FOLDER_REFUSED, figures.refused),
            (metrics.FOLDER_STARTED, figures.started),
            (metrics.FOLDER_FAILING, figures.failing),
        ):
            yield Sample(metric, value, (folder,))
        if figures.polled_s is not None:
            yield Sample(metrics.FOLDER_POLLED, figures.polled_s, (folder,))
        for state, number in _states(figures.phases).items():
            yield Sample(metrics.FOLDER_JOBS, number, (folder, state))
        for kind, status, reason in figures.conditions:
            yield Sample(metrics.FOLDER_CONDITION, 1, (folder, kind, status, reason))


def _states(phases: Collection[str]) -> dict[str, int]:
    succeeded = sum(phase == Phase.SUCCEEDED for phase in phases)
    failed = sum(phase == Phase.FAILED for phase in phases)
    active = len(phases) - succeeded - failed
    return {"active": active, "succeeded": succeeded, "failed": failed}
