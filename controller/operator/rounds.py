"""Worker Jobs, round after round, while shards are open. Pure.

A worker Job that ended while shards are open is followed by the next one: at once when it got
somewhere, after a pause when it did not, never when it failed without getting anywhere.
"""

from __future__ import annotations

from controller.exits import EXIT_WORKER_CONFIG
from controller.operator.actions import Action, CreateChild, LookAtRun, Plan, ScaleWorkers
from controller.operator.names import Role
from controller.operator.seen import ChildSeen, PodSeen, RunSeen
from controller.operator.status import Say, build_status, duration
from controller.operator.telling import SOON_S, Teller, latest_round, with_status
from neva.conditions import ConditionReason as Why
from neva.conditions import ConditionType as Type
from neva.conditions import Phase

_ROUND_PAUSE_S = 30.0  # before the round after one that got nowhere


class Rounds(Teller):
    """The workers of one job as it was seen."""

    __slots__ = ()

    def workers(self, run: RunSeen) -> Plan:
        """What is to be done about the workers of a run with open shards."""
        child = self.seen.child(Role.WORKER)
        if child is None:
            return self._next_round(run)
        if child.at_work:
            return self._watch_workers(child, run)
        if child.terminating:
            return self.waiting(Why.WAITING_FOR_PODS, f"{child.name} is going", [], SOON_S)
        if child.uid not in run.after:
            return Plan((LookAtRun(listing=True),), SOON_S)
        return self._after_round(child, run)

    def _after_round(self, child: ChildSeen, run: RunSeen) -> Plan:
        """A worker Job ended while shards are open."""
        pods = self.seen.pods_of(child)
        if child.failure == "PodFailurePolicy" or _wrong_configuration(pods):
            reason, words = self.failure_of(child)
            return self.fail(Why.WORKERS_FAILED, f"{reason}: {words}" if reason else words)
        if run.num_shards_done > child.shards_done:
            return self._next_round(run)
        if child.failure is not None:
            _, words = self.failure_of(child)
            return self.fail(Why.WORKERS_FAILED, words)
        left_s = (child.ended_s or 0) + _ROUND_PAUSE_S - self.seen.now_s
        if left_s > 0:
            words = "the workers left without finishing a shard; others are started"
            return self.waiting(Why.WAITING_FOR_PODS, words, [], left_s)
        return self._next_round(run)

    def _next_round(self, run: RunSeen) -> Plan:
        number = latest_round(self.seen) + 1
        num_open = run.num_shards - run.num_shards_done
        workers = min(self.spec.workers.replicas, num_open)
        create = CreateChild(Role.WORKER, number, workers, run.num_shards_done)
        words = f"{workers} workers for {num_open} shards are being created"
        why = self.creating(Role.WORKER, Why.WAITING_FOR_PODS, words)
        return self.waiting(*why, [create], SOON_S)

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
            reason, words = self.why_waiting(child)
            questions, again_s = self.ask_events(child, pods)
            rest_s = rest_s if again_s is None else min(rest_s, again_s)
            return self.waiting(reason, words, [*actions, *questions], rest_s)
        says = [
            self.prepared(),
            Say(Type.QUEUED, False, Why.WORKERS_STARTED),
            Say(Type.RUNNING, True, *self._progress_words(run, running, child)),
            Say(Type.FINISHED, False, Why.NOT_FINISHED),
        ]
        status = build_status(self.seen, Phase.RUNNING, says, worker_round=latest_round(self.seen))
        return with_status(self.seen, self.pace, status, actions, rest_s)

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


def _wrong_configuration(pods: list[PodSeen]) -> bool:
    return any(pod.exit_code == EXIT_WORKER_CONFIG for pod in pods)
