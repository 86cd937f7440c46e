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

from dataclasses import dataclass

from controller.exits import EXIT_WORKER_CONFIG
from controller.operator.actions import (
    Action,
    CreateChild,
    DeleteChild,
    DeleteJob,
    LookAtRun,
    LookForRefusals,
    Plan,
    PurgeRun,
    ScaleWorkers,
    SetFinalizer,
    WriteStatus,
)
from controller.operator.names import Role
from controller.operator.seen import ChildSeen, JobSeen, Observed, PodSeen, RunSeen
from controller.operator.status import (
    Say,
    build_status,
    duration,
    epoch_s,
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

_SOON_S = 1.0
_ROUND_PAUSE_S = 30.0  # before the round after one that got nowhere
_PODS_GONE_S = 120.0  # a deleted job does not wait longer for its pods
_EXIT_ROWS = 3


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
        return Plan((SetFinalizer(True),), _SOON_S)
    if job.spec.suspend:
        return _suspend(seen, pace)
    return _Course(seen, pace, job.spec).plan()


def _is_final(job: JobSeen) -> bool:
    # A job refused for its spec has never started: it is looked at again when the spec changes.
    phase = job.status.get("phase")
    return phase in (Phase.SUCCEEDED, Phase.FAILED) and bool(job.status.get("startTime"))


def _deletions(seen: Observed) -> tuple[Action, ...]:
    return tuple(DeleteChild(c.name, c.uid) for c in seen.children if c.at_work)


def _clean_up(seen: Observed) -> Plan:
    """The custom resource is being deleted: children first, then the queue, outputs never."""
    job = seen.job
    if not job.finalized:
        return Plan()
    left = tuple(DeleteChild(c.name, c.uid) for c in seen.children if not c.terminating)
    if left or seen.children:
        return Plan(left, _SOON_S)
    waited_s = seen.now_s - (job.deleted_s or seen.now_s)
    if seen.pods and waited_s < _PODS_GONE_S:
        return Plan((), _SOON_S)
    run_id = job.status.get("runId")
    purge = (PurgeRun(run_id),) if run_id else ()
    return Plan((*purge, SetFinalizer(False)), _SOON_S)


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
    return _with_status(seen, pace, status, [*_deletions(seen)], None)


def _suspend(seen: Observed, pace: Pace) -> Plan:
    says = [
        Say(Type.QUEUED, False, Why.SUSPENDED, "by spec.suspend; finished rows are kept"),
        Say(Type.RUNNING, False, Why.SUSPENDED),
        Say(Type.FINISHED, False, Why.NOT_FINISHED),
    ]
    status = build_status(seen, Phase.SUSPENDED, says, worker_round=_latest_round(seen))
    deletions = _deletions(seen)
    return _with_status(seen, pace, status, list(deletions), _SOON_S if deletions else None)


def _after_the_end(seen: Observed, spec: JobSpec) -> Plan:
    """Nothing is at work any more; the custom resource goes when its time is over."""
    deletions = _deletions(seen)
    ttl_s = spec.ttl_seconds_after_finished
    finished_s = epoch_s(seen.job.status.get("finishTime"))
    if deletions:
        return Plan(deletions, _SOON_S)
    if ttl_s is None or finished_s is None:
        return Plan()
    left_s = finished_s + ttl_s - seen.now_s
    return Plan((DeleteJob(),), None) if left_s <= 0 else Plan((), left_s)


def _with_status(
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


def _latest_round(seen: Observed) -> int:
    rounds = [child.round for child in seen.children if child.role is Role.WORKER]
    return max([*rounds, seen.job.status.get("workerRound") or 0])


@dataclass(frozen=True, slots=True)
class _Course:
    """A job that is to be brought on."""

    seen: Observed
    pace: Pace
    spec: JobSpec

    def plan(self) -> Plan:
        deadline = self._deadline_left_s()
        if deadline is not None and deadline <= 0:
            words = f"not finished {self.spec.active_deadline_seconds} s after its start"
            made = self._fail(Why.DEADLINE_EXCEEDED, words)
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
            why = self._creating(Role.PREPARE, Why.PREPARING, "the prepare pod is being created")
            return self._preparing(*why, [CreateChild(Role.PREPARE)], None)
        if child.failure is not None:
            reason, words = self._failure_of(child)
            says = Say(Type.VALIDATED, False, reason or Why.PREPARE_FAILED, words)
            return self._fail(Why.PREPARE_FAILED, words, says)
        if child.complete:
            if run is None or child.uid not in run.after:
                return self._preparing(Why.PREPARING, "prepared", [LookAtRun()], _SOON_S)
            if run.problem is not None:
                return self._preparing(*run.problem, [LookAtRun()], self.pace.look_s)
            if run.run_id is None:
                words = f"{self.spec.output.uri} has no manifest.json after prepare"
                return self._fail(
                    Why.PREPARE_FAILED,
                    words,
                    Say(Type.VALIDATED, False, Reason.LEDGER_CORRUPT, words),
                )
            return self._go_on()
        return self._await_pod(child)

    def _await_pod(self, child: ChildSeen) -> Plan:
        pods = self.seen.pods_of(child)
        if child.terminating:
            return self._preparing(Why.PREPARING, f"{child.name} is going", [], _SOON_S)
        if any(pod.running for pod in pods):
            return self._preparing(Why.PREPARING, "checking the store, the model and the rows")
        reason, words = why_waiting(child, pods, None, self.seen.refusals.get(child.uid))
        actions, again_s = self._ask_events(child, pods)
        if reason is Why.WAITING_FOR_PODS:
            reason = Why.PREPARING
        return self._preparing(reason, words, actions, again_s)

    def _preparing(
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
        return _with_status(self.seen, self.pace, status, actions or [], again_s)

    # Workers, and the finish after them

    def _go_on(self) -> Plan:
        run = self.seen.run
        if run is None:
            return Plan((LookAtRun(),), _SOON_S)
        if run.problem is not None:
            return self._unseen(*run.problem)
        if run.run_id is None:
            return self._fail(
                Why.WORKERS_FAILED, f"manifest.json is gone from {self.spec.output.uri}"
            )
        if run.all_committed:
            return self._finish(run)
        if not self.spec.failure.tolerates(run.num_failed, run.num_rows):
            return self._fail(
                Why.TOO_MANY_FAILED_ROWS,
                f"{run.num_failed} of {run.num_rows} rows failed already, more than "
                f"failure.failOnError ({self.spec.failure.fail_on_error}) lets pass",
            )
        if run.trouble is not None and not run.trouble.retryable:
            return self._fail(Why.WORKERS_FAILED, f"{run.trouble.reason}: {run.trouble.message}")
        child = self.seen.child(Role.WORKER)
        if child is None:
            return self._next_round(run)
        if child.at_work:
            return self._watch_workers(child, run)
        if child.terminating:
            return self._waiting(Why.WAITING_FOR_PODS, f"{child.name} is going", [], _SOON_S)
        if child.uid not in run.after:
            return Plan((LookAtRun(listing=True),), _SOON_S)
        return self._after_round(child, run)

    def _after_round(self, child: ChildSeen, run: RunSeen) -> Plan:
        """A worker Job ended while shards are open."""
        pods = self.seen.pods_of(child)
        if child.failure == "PodFailurePolicy" or _wrong_configuration(pods):
            reason, words = self._failure_of(child)
            return self._fail(Why.WORKERS_FAILED, f"{reason}: {words}" if reason else words)
        if run.num_shards_done > child.shards_done:
            return self._next_round(run)
        if child.failure is not None:
            _, words = self._failure_of(child)
            return self._fail(Why.WORKERS_FAILED, words)
        left_s = (child.ended_s or 0) + _ROUND_PAUSE_S - self.seen.now_s
        if left_s > 0:
            words = "the workers left without finishing a shard; others are started"
            return self._waiting(Why.WAITING_FOR_PODS, words, [], left_s)
        return self._next_round(run)

    def _next_round(self, run: RunSeen) -> Plan:
        number = _latest_round(self.seen) + 1
        num_open = run.num_shards - run.num_shards_done
        workers = min(self.spec.workers.replicas, num_open)
        create = CreateChild(Role.WORKER, number, workers, run.num_shards_done)
        words = f"{workers} workers for {num_open} shards are being created"
        why = self._creating(Role.WORKER, Why.WAITING_FOR_PODS, words)
        return self._waiting(*why, [create], _SOON_S)

    def _watch_workers(self, child: ChildSeen, run: RunSeen) -> Plan:
        pods = self.seen.pods_of(child)
        actions: list[Action] = []
        if child.replicas != self.spec.workers.replicas:
            num_open = run.num_shards - run.num_shards_done
            workers = min(self.spec.workers.replicas, num_open)
            actions.append(ScaleWorkers(child.name, workers, self.spec.workers.replicas))
        running = sum(pod.running for pod in pods)
        pace_s = self.pace.look_s if running else self.pace.quiet_look_s
        rest_s = run.looked_s + pace_s - self.seen.now_s
        if rest_s <= 0:
            actions.append(LookAtRun())
            rest_s = pace_s
        if not running:
            workload = next((w for w in self.seen.workloads if w.child_uid == child.uid), None)
            reason, words = why_waiting(child, pods, workload, self.seen.refusals.get(child.uid))
            questions, again_s = self._ask_events(child, pods)
            rest_s = rest_s if again_s is None else min(rest_s, again_s)
            return self._waiting(reason, words, [*actions, *questions], rest_s)
        says = [
            self._prepared(),
            Say(Type.QUEUED, False, Why.WORKERS_STARTED),
            Say(Type.RUNNING, True, *self._progress_words(run, running, child)),
            Say(Type.FINISHED, False, Why.NOT_FINISHED),
        ]
        status = build_status(self.seen, Phase.RUNNING, says, worker_round=_latest_round(self.seen))
        return _with_status(self.seen, self.pace, status, actions, rest_s)

    def _progress_words(self, run: RunSeen, running: int, child: ChildSeen) -> tuple[Why, str]:
        workers = f"{running} of {child.parallelism} workers run"
        if run.trouble is not None:
            return Why.WORKERS_FAILING, f"{workers}; trying again: {run.trouble.message}"
        if not run.active and run.rows_per_s is None:
            return Why.STARTING_ENGINE, f"{workers}; the model is being loaded"
        words = f"{workers}; {run.num_done} of {run.num_rows} rows"
        if run.rows_per_s is not None and run.eta_s is not None:
            low, high = (duration(s) for s in run.eta_s)
            left = low if low == high else f"{low} to {high}"
            words += f" at {run.rows_per_s:.1f} rows/s, {left} left"
        return Why.ANSWERING, words

    def _waiting(
        self,
        reason: Why,
        message: str,
        actions: list[Action],
        again_s: float | None,
    ) -> Plan:
        says = [
            self._prepared(),
            Say(Type.QUEUED, True, reason, message),
            Say(Type.RUNNING, False, reason, message),
            Say(Type.FINISHED, False, Why.NOT_FINISHED),
        ]
        status = build_status(self.seen, Phase.QUEUED, says, worker_round=_latest_round(self.seen))
        return _with_status(self.seen, self.pace, status, actions, again_s)

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
        return _with_status(self.seen, self.pace, status, actions, rest_s if rest_s > 0 else 5.0)

    def _finish(self, run: RunSeen) -> Plan:
        child = self.seen.child(Role.FINISH)
        if child is None:
            reason, words = self._creating(
                Role.FINISH, Why.FINISHING, "the finish pod is being created"
            )
            return self._finishing(words, [CreateChild(Role.FINISH)], None, reason)
        if child.ended:
            if child.uid not in run.after:
                return Plan((LookAtRun(listing=True),), _SOON_S)
            return self._end(child, run)
        pods = self.seen.pods_of(child)
        if child.terminating or any(pod.running for pod in pods):
            again_s = _SOON_S if child.terminating else None
            return self._finishing("merging, judging, writing the report", [], again_s)
        reason, words = why_waiting(child, pods, None, self.seen.refusals.get(child.uid))
        actions, again_s = self._ask_events(child, pods)
        if reason is Why.WAITING_FOR_PODS:
            reason = Why.FINISHING
        return self._finishing(words, actions, again_s, reason)

    def _finishing(
        self,
        message: str,
        actions: list[Action],
        again_s: float | None,
        reason: Why = Why.FINISHING,
    ) -> Plan:
        says = [
            self._prepared(),
            Say(Type.QUEUED, False, Why.WORKERS_STARTED),
            Say(Type.RUNNING, False, Why.ALL_ROWS_SETTLED),
            Say(Type.FINISHED, False, reason, message),
        ]
        status = build_status(
            self.seen, Phase.FINISHING, says, worker_round=_latest_round(self.seen)
        )
        return _with_status(self.seen, self.pace, status, actions, again_s)

    # The end

    def _end(self, child: ChildSeen, run: RunSeen) -> Plan:
        summary = run.summary
        if child.complete and summary is not None:
            words = f"{summary['answered']} of {summary['rows']} rows answered"
            return self._over(Phase.SUCCEEDED, Why.SUCCEEDED, words, [self._judged(run)])
        if child.complete:
            return self._fail(Why.FINISH_FAILED, "summary.json is not there after the finish")
        reason, words = self._failure_of(child)
        if reason is Reason.TOO_MANY_FAILED_ROWS:
            return self._fail(Why.TOO_MANY_FAILED_ROWS, words)
        if reason is Reason.JUDGE_UNAVAILABLE:
            judged = Say(Type.JUDGED, False, Why.JUDGE_FAILED, words)
            return self._fail(Why.FINISH_FAILED, words, judged)
        return self._fail(Why.FINISH_FAILED, words)

    def _judged(self, run: RunSeen) -> Say:
        if self.spec.judge is None:
            return Say(Type.JUDGED, False, Why.NO_JUDGE)
        judge = (run.summary or {}).get("judge") or {}
        words = f"{judge.get('num_judged', 0)} judged, {judge.get('num_failed', 0)} failed"
        if not judge.get("num_judged"):
            return Say(Type.JUDGED, False, Why.JUDGE_FAILED, words)
        return Say(Type.JUDGED, True, Why.JUDGED, words)

    def _fail(self, reason: Why, words: str, *more: Say) -> Plan:
        return self._over(Phase.FAILED, reason, words, list(more))

    def _over(self, phase: Phase, reason: Why, words: str, more: list[Say]) -> Plan:
        prepared = [self._prepared()] if self._is_prepared() else []
        says = [
            *prepared,
            Say(Type.QUEUED, False, reason),
            Say(Type.RUNNING, False, reason),
            Say(Type.FINISHED, True, reason, words),
            *more,
        ]
        status = build_status(self.seen, phase, says, worker_round=_latest_round(self.seen))
        run_id = status.get("runId")
        purge: list[Action] = [PurgeRun(str(run_id))] if run_id else []
        deletions = _deletions(self.seen)
        return _with_status(self.seen, self.pace, status, [*deletions, *purge], _SOON_S)

    # Helpers

    def _creating(self, role: Role, reason: Why, words: str) -> tuple[Why, str]:
        refused = self.seen.creation_refused.get(role)
        return (reason, words) if refused is None else (Why.POD_REFUSED, refused)

    def _is_prepared(self) -> bool:
        run = self.seen.run
        return bool(self.seen.job.status.get("runId") or (run is not None and run.run_id))

    def _prepared(self) -> Say:
        rows = self.seen.run.num_rows if self.seen.run is not None else 0
        return Say(Type.VALIDATED, True, Why.PREPARED, f"{rows} rows" if rows else "")

    def _failure_of(self, child: ChildSeen) -> tuple[Reason | None, str]:
        """Why a child failed, in the words of the pod that explains it best."""
        failed = [pod for pod in self.seen.pods_of(child) if pod.exit_code not in (None, 0)]
        final = (EXIT_WORKER_CONFIG, 2, _EXIT_ROWS)
        failed.sort(key=lambda pod: (pod.exit_code in final, pod.ended_s or 0))
        if not failed:
            return None, child.failure_message or str(child.failure)
        reason, words = read_last_words(failed[-1].last_words)
        return (reason, words) if reason is not None else (None, how_ended(failed[-1]))

    def _ask_events(
        self, child: ChildSeen, pods: list[PodSeen]
    ) -> tuple[list[Action], float | None]:
        """Events are asked for only when a child has no pods, ever more seldom."""
        if child.suspended or any(pod.exit_code is None for pod in pods):
            return [], None
        asked_s, times = self.seen.refusals_asked.get(child.uid, (child.created_s, 0))
        pause_s = min(self.pace.refusal_s * 2**times, self.pace.max_refusal_s)
        left_s = asked_s + pause_s - self.seen.now_s
        if left_s > 0:
            return [], left_s
        return [LookForRefusals(child.name, child.uid)], pause_s


def _wrong_configuration(pods: list[PodSeen]) -> bool:
    return any(pod.exit_code == EXIT_WORKER_CONFIG for pod in pods)
