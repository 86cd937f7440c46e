"""What the operator can do, as data. Every action may fail, and may be done twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.operator.names import Role


@dataclass(frozen=True, slots=True)
class SetFinalizer:
    """Put our finalizer on the job, or take it off; off only when nothing of it is left."""

    present: bool


@dataclass(frozen=True, slots=True)
class CreateChild:
    """Make a child Job, if the API server still has the job as it was seen and no rival child."""

    role: Role
    round: int = 0
    parallelism: int = 1
    shards_done: int = 0


@dataclass(frozen=True, slots=True)
class ScaleWorkers:
    name: str
    parallelism: int
    replicas: int


@dataclass(frozen=True, slots=True)
class DeleteChild:
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class LookAtRun:
    """Look at the ledger, and enqueue what is missing.

    Attributes:
        listing: look at the ledger itself, however lately that was done.
    """

    listing: bool = False


@dataclass(frozen=True, slots=True)
class LookForRefusals:
    """Ask for the events of a child that has no pods, or of a pod that does not start."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class WriteStatus:
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TellEvent:
    """An event about the job. The name is the same however often the same transition is told."""

    name: str
    reason: str
    message: str
    warning: bool


@dataclass(frozen=True, slots=True)
class PurgeRun:
    """Empty the run's queue and leases. Never touches its outputs."""

    run_id: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the custom resource: its time after the end is over."""


Action = (
    SetFinalizer
    | CreateChild
    | ScaleWorkers
    | DeleteChild
    | LookAtRun
    | LookForRefusals
    | WriteStatus
    | TellEvent
    | PurgeRun
    | DeleteJob
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in order, and when to look again if nothing happens before."""

    actions: tuple[Action, ...] = ()
    again_in_s: float | None = None
