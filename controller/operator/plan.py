"""What to do next about one job: a pure function of what was seen of it. Level-triggered: it looks
at the state, never at what happened, so that a lost, late or repeated observation changes nothing.

    prepare Job  →  worker Job 1, 2, … (one unfinished at a time)  →  finish Job  →  the end

Rounds: a worker Job that ended while shards are open is followed by the next one; at once when it
got somewhere, after a pause when it did not, never when it failed without getting anywhere.
Suspending deletes unfinished children and keeps the ledger. More failed rows than failOnError can
still let pass end the job early: nothing is merged (an answer file is whole or not there), what was
answered stays in the ledger, and another job with a higher threshold and the same output goes on.
"""

from __future__ import annotations

from controller.operator.actions import (
    Action,
    CreateChild,
    DeleteChild,
    DeleteJob,
    LookAtRun,
    Plan,
    PurgeRun,
    SetFinalizer,
)
from controller.operator.names import Role
from controller.operator.rounds import Rounds
from controller.operator.seen import ChildSeen, JobSeen, Observed, RunSeen
from controller.operator.status import (
    Say,
    build_status,
    epoch_s,
)
from controller.operator.telling import SOON_S, Pace, deletions, latest_round, with_status
from neva.conditions import ConditionReason as Why
from neva.conditions import ConditionType as Type
from neva.conditions import Phase
from neva.ledger.control import Order
from neva.reasons import Reason
from neva.spec import JobSpec

_ORDER_LOOK_S = 5.0  # between two looks at a run that an order suspends
_PODS_GONE_S = 120.0  # a deleted job does not wait longer for its pods
_PURGE_S = 600.0  # nor longer for its queue to be emptied


def plan(seen: Observed, pace: Pace) -> Plan:
    """Decide. The same observation gives the same plan."""
    job = seen.job
    if job.deleted_s is not None:
        return _clean_up(seen)
    if job.spec is None:
        return _refuse(seen, pace)
    if _is_final(job):
        return _after_the_end(seen, job.spec)
    if not job.finalized:
        return Plan((SetFinalizer(True),), SOON_S)
    if job.spec.suspend:
        return _suspend(seen, pace, "by spec.suspend; finished rows are kept")
    return _Course(seen, pace, job.spec).plan()


def _is_final(job: JobSeen) -> bool:
    # A job refused for its spec has never started: it is looked at again when the spec changes.
    phase = job.status.get("phase")
    return phase in (Phase.SUCCEEDED, Phase.FAILED) and bool(job.status.get("startTime"))


def _clean_up(seen: Observed) -> Plan:
    """The custom resource is being deleted: children first, then the queue, outputs never."""
    job = seen.job
    if not job.finalized:
        return Plan()
    left = tuple(DeleteChild(c.name, c.uid) for c in seen.children if not c.terminating)
    if left or seen.children:
        return Plan(left, SOON_S)
    waited_s = seen.now_s - (job.deleted_s or seen.now_s)
    if seen.pods and waited_s < _PODS_GONE_S:
        return Plan((), SOON_S)
    run_id = job.status.get("runId")
    # A broker that is gone for good must not hold the job back: what is left in it expires, or
    # was lost with it.
    purge = (PurgeRun(run_id),) if run_id and waited_s < _PURGE_S else ()
    return Plan((*purge, SetFinalizer(False)), SOON_S)


def _refuse(seen: Observed, pace: Pace) -> Plan:
    """The spec can't be honoured. Says so; goes on when it was changed."""
    message = seen.job.problem
    says = [
        Say(Type.VALIDATED, False, Why.INVALID_SPEC, message),
        Say(Type.FINISHED, True, Why.INVALID_SPEC, message),
    ]
    status = build_status(seen, Phase.FAILED, says)
    if not seen.job.status.get("startTime"):
        status.pop("startTime", None)
    return with_status(seen, pace, status, [*deletions(seen)], None)


def _suspend(
    seen: Observed,
    pace: Pace,
    words: str,
    look: tuple[LookAtRun, ...] = (),
    again_s: float | None = None,
) -> Plan:
    """
    Args:
        look, again_s: how the end of the suspension is noticed, where the spec does not tell.
    """
    says = [
        Say(Type.QUEUED, False, Why.SUSPENDED, words),
        Say(Type.RUNNING, False, Why.SUSPENDED),
        Say(Type.FINISHED, False, Why.NOT_FINISHED),
    ]
    status = build_status(seen, Phase.SUSPENDED, says, worker_round=latest_round(seen))
    gone = deletions(seen)
    return with_status(seen, pace, status, [*gone, *look], SOON_S if gone else again_s)


def _after_the_end(seen: Observed, spec: JobSpec) -> Plan:
    """Nothing is at work any more; the custom resource goes when its time is over."""
    gone = deletions(seen)
    ttl_s = spec.ttl_seconds_after_finished
    finished_s = epoch_s(seen.job.status.get("finishTime"))
    if gone:
        return Plan(gone, SOON_S)
    if ttl_s is None or finished_s is None:
        return Plan()
    left_s = finished_s + ttl_s - seen.now_s
    return Plan((DeleteJob(),), None) if left_s <= 0 else Plan((), left_s)


class _Course(Rounds):
    """A job that is to be brought on."""

    __slots__ = ()

    def plan(self) -> Plan:
        deadline = self._deadline_left_s()
        if deadline is not None and deadline <= 0:
            words = f"not finished {self.spec.active_deadline_seconds} s after its start"
            made = self.fail(Why.DEADLINE_EXCEEDED, words)
        elif not self.seen.job.status.get("runId"):
            made = self._prepare()
        else:
            made = self._go_on()
        if deadline is None or deadline <= 0:
            return made
        again_s = deadline if made.again_in_s is None else min(deadline, made.again_in_s)
        return Plan(made.actions, again_s)

    def _deadline_left_s(self) -> float | None:
        started_s = epoch_s(self.seen.job.status.get("startTime"))
        if self.spec.active_deadline_seconds is None or started_s is None:
            return None
        return started_s + self.spec.active_deadline_seconds - self.seen.now_s

    # Before the workers

    def _prepare(self) -> Plan:
        run = self.seen.run
        child = self.seen.child(Role.PREPARE)
        if child is None:
            why = self.creating(Role.PREPARE, Why.PREPARING, "the prepare pod is being created")
            return self.preparing(*why, [CreateChild(Role.PREPARE)], None)
        if child.failure is not None:
            reason, words = self.failure_of(child)
            says = Say(Type.VALIDATED, False, reason or Why.PREPARE_FAILED, words)
            return self.fail(Why.PREPARE_FAILED, words, says)
        if child.complete:
            if run is None or child.uid not in run.after:
                return self.preparing(Why.PREPARING, "prepared", [LookAtRun()], SOON_S)
            if run.problem is not None:
                return self.preparing(*run.problem, [LookAtRun()], self.pace.look_s)
            if run.run_id is None:
                words = f"{self.spec.output.uri} has no manifest.json after prepare"
                return self.fail(
                    Why.PREPARE_FAILED,
                    words,
                    Say(Type.VALIDATED, False, Reason.LEDGER_CORRUPT, words),
                )
            return self._go_on()
        return self._await_pod(child)

    def _await_pod(self, child: ChildSeen) -> Plan:
        pods = self.seen.pods_of(child)
        if child.terminating:
            return self.preparing(Why.PREPARING, f"{child.name} is going", [], SOON_S)
        if any(pod.running for pod in pods):
            return self.preparing(Why.PREPARING, "checking the store, the model and the rows")
        reason, words = self.why_waiting(child)
        actions, again_s = self.ask_events(child, pods)
        if reason is Why.WAITING_FOR_PODS:
            reason = Why.PREPARING
        return self.preparing(reason, words, actions, again_s)

    # Workers, and the finish after them

    def _go_on(self) -> Plan:
        run = self.seen.run
        if run is None:
            return Plan((LookAtRun(),), SOON_S)
        if run.problem is not None:
            return self._unseen(*run.problem)
        if run.run_id is None:
            return self.fail(
                Why.WORKERS_FAILED, f"manifest.json is gone from {self.spec.output.uri}"
            )
        if run.order is Order.CANCEL:
            words = "by `neva cancel`, which put finished rows into partial.jsonl"
            return self.fail(Why.CANCELLED, words)
        if run.all_committed:
            return self._finish(run)
        if run.order is Order.SUSPEND:
            return self._suspended(run)
        if not self.spec.failure.tolerates(run.num_failed, run.num_rows + run.num_kept):
            return self.fail(
                Why.TOO_MANY_FAILED_ROWS,
                f"{run.num_failed} of {run.num_rows} rows failed already, more than "
                f"failure.failOnError ({self.spec.failure.fail_on_error}) lets pass",
            )
        if run.trouble is not None and not run.trouble.retryable:
            return self.fail(Why.WORKERS_FAILED, f"{run.trouble.reason}: {run.trouble.message}")
        return self.workers(run)

    def _suspended(self, run: RunSeen) -> Plan:
        """By an order in the ledger, which is looked at until it is lifted."""
        words = f"by `neva suspend`; `neva resume {self.spec.output.uri}` lifts that"
        rest_s = run.looked_s + _ORDER_LOOK_S - self.seen.now_s
        look = (LookAtRun(),) if rest_s <= 0 else ()
        return _suspend(self.seen, self.pace, words, look, rest_s if rest_s > 0 else _ORDER_LOOK_S)

    def _unseen(self, reason: Why, words: str) -> Plan:
        """The ledger or the broker can't be had: nothing is decided, and that is said."""
        written = self.seen.job.status.get("phase")
        phase = Phase.RUNNING if written == Phase.RUNNING else Phase.QUEUED
        if phase is Phase.RUNNING:
            says = [Say(Type.RUNNING, True, reason, words)]
        else:
            says = [Say(Type.QUEUED, True, reason, words), Say(Type.RUNNING, False, reason, words)]
        status = build_status(self.seen, phase, says)
        rest_s = (self.seen.run.looked_s if self.seen.run else 0) + 5.0 - self.seen.now_s
        actions: list[Action] = [LookAtRun()] if rest_s <= 0 else []
        return with_status(self.seen, self.pace, status, actions, rest_s if rest_s > 0 else 5.0)

    def _finish(self, run: RunSeen) -> Plan:
        child = self.seen.child(Role.FINISH)
        if child is None:
            reason, words = self.creating(
                Role.FINISH, Why.FINISHING, "the finish pod is being created"
            )
            return self.finishing(words, [CreateChild(Role.FINISH)], None, reason)
        if child.ended:
            if child.uid not in run.after:
                return Plan((LookAtRun(listing=True),), SOON_S)
            return self._end(child, run)
        pods = self.seen.pods_of(child)
        if child.terminating or any(pod.running for pod in pods):
            again_s = SOON_S if child.terminating else None
            return self.finishing("merging, judging, writing the report", [], again_s)
        reason, words = self.why_waiting(child)
        actions, again_s = self.ask_events(child, pods)
        if reason is Why.WAITING_FOR_PODS:
            reason = Why.FINISHING
        return self.finishing(words, actions, again_s, reason)

    # The end

    def _end(self, child: ChildSeen, run: RunSeen) -> Plan:
        summary = run.summary
        if child.complete and summary is not None:
            words = f"{summary['answered']} of {summary['rows']} rows answered"
            return self.over(Phase.SUCCEEDED, Why.SUCCEEDED, words, [self._judged(run)])
        if child.complete:
            return self.fail(Why.FINISH_FAILED, "summary.json is not there after the finish")
        reason, words = self.failure_of(child)
        if reason is Reason.TOO_MANY_FAILED_ROWS:
            return self.fail(Why.TOO_MANY_FAILED_ROWS, words)
        if reason is Reason.JUDGE_UNAVAILABLE:
            judged = Say(Type.JUDGED, False, Why.JUDGE_FAILED, words)
            return self.fail(Why.FINISH_FAILED, words, judged)
        return self.fail(Why.FINISH_FAILED, words)

    def _judged(self, run: RunSeen) -> Say:
        if self.spec.judge is None:
            return Say(Type.JUDGED, False, Why.NO_JUDGE)
        judge = (run.summary or {}).get("judge") or {}
        words = f"{judge.get('num_judged', 0)} judged, {judge.get('num_failed', 0)} failed"
        if not judge.get("num_judged"):
            return Say(Type.JUDGED, False, Why.JUDGE_FAILED, words)
        return Say(Type.JUDGED, True, Why.JUDGED, words)
