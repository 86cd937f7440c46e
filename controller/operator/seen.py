"""What the operator saw of one job, as plain data. Any of it may be old: the planner lives with it.

Times are seconds since the epoch by the operator's clock, or by the API server's where it set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.operator.names import Role
from neva.conditions import ConditionReason
from neva.ledger.control import Order
from neva.spec import JobSpec
from neva.trouble import Trouble


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The custom resource.

    Attributes:
        spec: None when it can't be honoured; `problem` then says why.
        raw_spec: as the user wrote it.
        status: as it was written last, JSON.
        finalized: our finalizer is on it.
    """

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    created_s: float
    deleted_s: float | None
    finalized: bool
    raw_spec: Mapping[str, Any]
    spec: JobSpec | None
    problem: str
    status: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChildSeen:
    """A child Job.

    Attributes:
        failure: reason of the condition Failed; None when it has not failed.
        replicas: spec.workers.replicas it was last scaled for.
        shards_done: committed shards when it was made.
    """

    name: str
    uid: str
    role: Role
    round: int
    created_s: float
    terminating: bool = False
    complete: bool = False
    failure: str | None = None
    failure_message: str = ""
    ended_s: float | None = None
    suspended: bool = False
    parallelism: int = 1
    replicas: int = 0
    shards_done: int = 0
    num_failed_pods: int = 0

    @property
    def ended(self) -> bool:
        return self.complete or self.failure is not None

    @property
    def at_work(self) -> bool:
        """Unfinished: it may have pods, now or later."""
        return not self.ended and not self.terminating


@dataclass(frozen=True, slots=True)
class PodSeen:
    """A pod of a child.

    Attributes:
        uid: events about it are found by it.
        running: its container runs.
        unschedulable: the scheduler's words, when no node fits.
        waiting: (reason, message) of a container that can't start.
        exit_code: of its container, when that has ended.
        refused: the kubelet's words for a pod that failed without its container's end: no room, no
            device, evicted, a node that was lost.
        last_words: its termination message.
        exit_reason: the kubelet's word for the end, such as OOMKilled.
    """

    name: str
    child: str
    phase: str
    created_s: float
    terminating: bool = False
    running: bool = False
    unschedulable: str | None = None
    waiting: tuple[str, str] | None = None
    exit_code: int | None = None
    last_words: str = ""
    exit_reason: str = ""
    ended_s: float | None = None
    uid: str = ""
    refused: str | None = None

    @property
    def failed(self) -> bool:
        return self.refused is not None or self.exit_code not in (None, 0)

    @property
    def alive(self) -> bool:
        """Its container runs, or may yet."""
        return self.exit_code is None and self.refused is None

    @property
    def stuck(self) -> bool:
        """Its container is neither started nor refused: a volume may be what is missing."""
        return self.waiting is not None and self.waiting[0] in ("ContainerCreating", "")


@dataclass(frozen=True, slots=True)
class WorkloadSeen:
    """Kueue's object for the worker Job."""

    child_uid: str
    admitted: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One look at the run in ledger and queue.

    Attributes:
        problem: (reason, words) why nothing could be seen; the counts are then of no meaning.
        run_id: None when there is no manifest.
        num_kept: rows that the run which this one retries has answered.
        order: of `neva suspend` or `neva cancel`, that holds.
        eta_s: least and most time left.
        num_leased: shards that somebody holds; num_waiting: messages in the queue.
        after: uids of children that had ended before the look began: what they did was seen.
        summary: summary.json, when every shard is committed and the finish pod wrote it.
        score: the judge's overall score.
    """

    looked_s: float
    problem: tuple[ConditionReason, str] | None = None
    run_id: str | None = None
    num_rows: int = 0
    num_done: int = 0
    num_failed: int = 0
    num_kept: int = 0
    order: Order | None = None
    num_shards: int = 0
    num_shards_done: int = 0
    num_leased: int = 0
    num_waiting: int = 0
    rows_per_s: float | None = None
    eta_s: tuple[float, float] | None = None
    trouble: Trouble | None = None
    after: frozenset[str] = frozenset()
    summary: Mapping[str, Any] | None = None
    score: str | None = None

    @property
    def active(self) -> bool:
        """Somebody holds a lease."""
        return self.num_leased > 0

    @property
    def all_committed(self) -> bool:
        return self.num_shards_done == self.num_shards


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything a decision is made of.

    Attributes:
        refusals: by the uid of a child or pod, the words of the last event that says what is wrong.
        refusals_asked: by uid, when and how often events were last asked for.
        status_written_s: when this process last wrote the status; None: never.
        creation_refused: by role, why the API server refused a child lately.
    """

    now_s: float
    job: JobSeen
    children: tuple[ChildSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()
    workloads: tuple[WorkloadSeen, ...] = ()
    run: RunSeen | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    refusals_asked: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    status_written_s: float | None = None
    creation_refused: Mapping[Role, str] = field(default_factory=dict)

    def child(self, role: Role) -> ChildSeen | None:
        """The child of a role; of several worker Jobs the unfinished one, else the latest."""
        found = [child for child in self.children if child.role is role]
        return max(found, key=lambda c: (not c.ended, c.round, c.created_s), default=None)

    def pods_of(self, child: ChildSeen) -> list[PodSeen]:
        return [pod for pod in self.pods if pod.child == child.name]
