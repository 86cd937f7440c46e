"""What is told at each stage of a job, and what the stages share. Pure.

Every method makes the whole status of its stage and puts it before the stage's actions, so that
nothing is done without a word.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.exits import EXIT_INVALID, EXIT_ROWS_FAILED, EXIT_WORKER_CONFIG
from controller.operator.actions import (
    Action,
    DeleteChild,
    LookForRefusals,
    Plan,
    PurgeRun,
    WriteStatus,
)
from controller.operator.names import Role
from controller.operator.seen import ChildSeen, Observed, PodSeen
from controller.operator.status import (
    Say,
    build_status,
    same,
    transition_event,
    worth_writing,
)
from controller.operator.waiting import how_ended, why_waiting
from neva.conditions import ConditionReason as Why
from neva.conditions import ConditionType as Type
from neva.conditions import Phase
from neva.pod import read_last_words
from neva.reasons import Reason
from neva.spec import JobSpec

SOON_S = 1.0
_FINAL_CODES = (EXIT_INVALID, EXIT_ROWS_FAILED, EXIT_WORKER_CONFIG)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done.

    Attributes:
        status_s: between two writes of a status that differ in counts only.
        look_s: between two looks at a run whose workers run.
        quiet_look_s: the same while none runs.
        refusal_s: before the events of a child without pods are first asked for; doubles.
    """

    status_s: float = 10.0
    look_s: float = 2.0
    quiet_look_s: float = 30.0
    refusal_s: float = 5.0
    max_refusal_s: float = 600.0


def deletions(seen: Observed) -> tuple[Action, ...]:
    return tuple(DeleteChild(c.name, c.uid) for c in seen.children if c.at_work)


def with_status(
    seen: Observed,
    pace: Pace,
    status: dict[str, object],
    actions: list[Action],
    again: float | None,
) -> Plan:
    """The status first, so that what follows is never done without a word."""
    old = seen.job.status
    since_s = None if seen.status_written_s is None else seen.now_s - seen.status_written_s
    if worth_writing(old, status, since_s, pace.status_s):
        event = transition_event(seen.job, status)
        first: list[Action] = [event] if event is not None else []
        actions = [*first, WriteStatus(status), *actions]
    elif not same(old, status) and since_s is not None:
        rest_s = max(pace.status_s - since_s, 0.1)
        again = rest_s if again is None else min(again, rest_s)
    return Plan(tuple(actions), again)


def latest_round(seen: Observed) -> int:
    rounds = [child.round for child in seen.children if child.role is Role.WORKER]
    return max([*rounds, seen.job.status.get("workerRound") or 0])


@dataclass(frozen=True, slots=True)
class Teller:
    """The stages of one job as it was seen."""

    seen: Observed
    pace: Pace
    spec: JobSpec

    # Stages

    def preparing(
        self,
        reason: Why,
        message: str,
        actions: list[Action] | None = None,
        again_s: float | None = None,
    ) -> Plan:
        says = [
            Say(Type.VALIDATED, None, reason, message),
            Say(Type.QUEUED, False, Why.PREPARING),
            Say(Type.RUNNING, False, Why.PREPARING),
            Say(Type.FINISHED, False, Why.NOT_FINISHED),
        ]
        status = build_status(self.seen, Phase.PREPARING, says)
        return with_status(self.seen, self.pace, status, actions or [], again_s)

    def waiting(
        self,
        reason: Why,
        message: str,
        actions: list[Action],
        again_s: float | None,
    ) -> Plan:
        says = [
            self.prepared(),
            Say(Type.QUEUED, True, reason, message),
            Say(Type.RUNNING, False, reason, message),
            Say(Type.FINISHED, False, Why.NOT_FINISHED),
        ]
        status = build_status(self.seen, Phase.QUEUED, says, worker_round=latest_round(self.seen))
        return with_status(self.seen, self.pace, status, actions, again_s)

    def finishing(
        self,
        message: str,
        actions: list[Action],
        again_s: float | None,
        reason: Why = Why.FINISHING,
    ) -> Plan:
        says = [
            self.prepared(),
            Say(Type.QUEUED, False, Why.WORKERS_STARTED),
            Say(Type.RUNNING, False, Why.ALL_ROWS_SETTLED),
            Say(Type.FINISHED, False, reason, message),
        ]
        status = build_status(
            self.seen, Phase.FINISHING, says, worker_round=latest_round(self.seen)
        )
        return with_status(self.seen, self.pace, status, actions, again_s)

    def fail(self, reason: Why, words: str, *more: Say) -> Plan:
        return self.over(Phase.FAILED, reason, words, list(more))

    def over(self, phase: Phase, reason: Why, words: str, more: list[Say]) -> Plan:
        prepared = [self.prepared()] if self.is_prepared() else []
        says = [
            *prepared,
            Say(Type.QUEUED, False, reason),
            Say(Type.RUNNING, False, reason),
            Say(Type.FINISHED, True, reason, words),
            *more,
        ]
        status = build_status(self.seen, phase, says, worker_round=latest_round(self.seen))
        run_id = status.get("runId")
        purge: list[Action] = [PurgeRun(str(run_id))] if run_id else []
        gone = deletions(self.seen)
        return with_status(self.seen, self.pace, status, [*gone, *purge], SOON_S)

    # What they share

    def creating(self, role: Role, reason: Why, words: str) -> tuple[Why, str]:
        refused = self.seen.creation_refused.get(role)
        return (reason, words) if refused is None else (Why.POD_REFUSED, refused)

    def is_prepared(self) -> bool:
        run = self.seen.run
        return bool(self.seen.job.status.get("runId") or (run is not None and run.run_id))

    def prepared(self) -> Say:
        rows = self.seen.run.num_rows if self.seen.run is not None else 0
        return Say(Type.VALIDATED, True, Why.PREPARED, f"{rows} rows" if rows else "")

    def failure_of(self, child: ChildSeen) -> tuple[Reason | None, str]:
        """Why a child failed, in the words of the pod that explains it best."""
        failed = [pod for pod in self.seen.pods_of(child) if pod.failed]
        failed.sort(key=lambda pod: (pod.exit_code in _FINAL_CODES, pod.ended_s or 0))
        if not failed:
            return None, child.failure_message or str(child.failure)
        reason, words = read_last_words(failed[-1].last_words)
        return (reason, words) if reason is not None else (None, how_ended(failed[-1]))

    def ask_events(
        self, child: ChildSeen, pods: list[PodSeen]
    ) -> tuple[list[Action], float | None]:
        """Events are asked for of what neither starts nor says why, ever more seldom."""
        alive = [pod for pod in pods if pod.alive]
        stuck = next((pod for pod in alive if pod.stuck and pod.uid), None)
        if child.suspended or (alive and stuck is None):
            return [], None
        about = child if stuck is None else stuck
        asked_s, times = self.seen.refusals_asked.get(about.uid, (about.created_s, 0))
        pause_s = min(self.pace.refusal_s * 2**times, self.pace.max_refusal_s)
        left_s = asked_s + pause_s - self.seen.now_s
        if left_s > 0:
            return [], left_s
        return [LookForRefusals(about.name, about.uid)], pause_s

    def why_waiting(self, child: ChildSeen) -> tuple[Why, str]:
        """Why no pod of the child runs."""
        workload = next((w for w in self.seen.workloads if w.child_uid == child.uid), None)
        return why_waiting(child, self.seen.pods_of(child), workload, self.seen.refusals)
