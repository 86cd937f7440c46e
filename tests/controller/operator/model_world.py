"""A small world for the planner: the API server, the Job controller, pods and the ledger as plain
data. Everything that may happen happens between two turns; the planner sees what the test lets it
see, and its actions do what the real ones do, or fail before or after doing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from controller.operator.actions import (
    Action,
    CreateChild,
    DeleteChild,
    DeleteJob,
    PurgeRun,
    ScaleWorkers,
    SetFinalizer,
    WriteStatus,
)
from controller.operator.names import Role, child_name
from controller.operator.seen import ChildSeen, JobSeen, Observed, PodSeen, RunSeen
from neva.conditions import Phase
from tests.controller.operator.examples import NOW_S, job

NUM_SHARDS = 3


class Refused(Exception):
    """The world does not do it: what it was planned on is no longer so."""


@dataclass
class ModelWorld:
    """The truth. `job` is None when the custom resource is gone."""

    job: JobSeen | None = field(default_factory=lambda: replace(job(), finalized=False))
    children: dict[str, ChildSeen] = field(default_factory=dict)
    pods: dict[str, PodSeen] = field(default_factory=dict)
    manifest: bool = False
    shards_done: int = 0
    merged: bool = False
    queue: int = 0
    now_s: float = NOW_S
    version: int = 7
    was_deleted: bool = False

    def observe(self, run: RunSeen | None) -> Observed | None:
        if self.job is None:
            return None
        return Observed(
            now_s=self.now_s,
            job=self.job,
            children=tuple(self.children.values()),
            pods=tuple(self.pods.values()),
            run=run,
        )

    def look(self) -> RunSeen:
        if not self.manifest:
            return RunSeen(self.now_s)
        return RunSeen(
            looked_s=self.now_s,
            run_id="run",
            num_rows=10 * NUM_SHARDS,
            num_done=10 * self.shards_done,
            num_shards=NUM_SHARDS,
            num_shards_done=self.shards_done,
            summary={"answered": 30, "rows": 30, "judge": None} if self.merged else None,
        )

    def unfinished_workers(self) -> list[ChildSeen]:
        return [c for c in self.children.values() if c.role is Role.WORKER and not c.ended]

    # What the operator does, as `act` does it

    def do(self, action: Action, seen: Observed) -> None:
        match action:
            case SetFinalizer(present):
                self._at(seen)
                if not present and self.children:
                    raise Refused("children are left")
                self._change(finalized=present)
                if not present and self.job is not None and self.job.deleted_s is not None:
                    self.job = None
            case WriteStatus(status):
                self._at(seen)
                self._change(status=dict(status))
            case CreateChild():
                self._create(action, seen)
            case ScaleWorkers(name, parallelism, replicas):
                if name not in self.children:
                    raise Refused("gone")
                old = self.children[name]
                self.children[name] = replace(old, parallelism=parallelism, replicas=replicas)
            case DeleteChild(name, uid):
                if name in self.children and self.children[name].uid == uid:
                    del self.children[name]
                    self.pods = {k: p for k, p in self.pods.items() if p.child != name}
            case PurgeRun():
                self.queue = 0
            case DeleteJob():
                self._at(seen)
                self.delete_job()
            case _:
                pass

    def _create(self, action: CreateChild, seen: Observed) -> None:
        now = self.job
        if now is None or now.uid != seen.job.uid or now.deleted_s is not None:
            raise Refused("the job is gone")
        phase = now.status.get("phase")
        if now.spec is None or now.spec.suspend or phase in (Phase.SUCCEEDED, Phase.FAILED):
            raise Refused("the job is not to go on")
        for other in self.children.values():
            known = other.ended and other.role is Role.WORKER and other.round < action.round
            if other.role is action.role and not known:
                raise Refused("a rival is there")
        name = child_name(now.name, action.role, action.round)
        assert not self.was_deleted, "created after the delete"
        self.children[name] = ChildSeen(
            name=name,
            uid=f"{name}-{self.version}",
            role=action.role,
            round=action.round,
            created_s=self.now_s,
            parallelism=action.parallelism,
            replicas=now.spec.workers.replicas,
            shards_done=action.shards_done,
        )
        self.version += 1

    def _at(self, seen: Observed) -> None:
        """Writes carry the resource version they were planned on."""
        if self.job is None or self.job.resource_version != seen.job.resource_version:
            raise Refused("conflict")

    def _change(self, **changes: Any) -> None:
        assert self.job is not None
        self.version += 1
        self.job = replace(self.job, resource_version=str(self.version), **changes)

    # What others do

    def delete_job(self) -> None:
        if self.job is None or self.job.deleted_s is not None:
            return
        self.was_deleted = True
        if self.job.finalized:
            self._change(deleted_s=self.now_s)
        else:
            self.job = None

    def set_suspend(self, suspend: bool) -> None:
        if self.job is not None and self.job.spec is not None:
            self._change(spec=self.job.spec.model_copy(update={"suspend": suspend}))

    def set_replicas(self, replicas: int) -> None:
        if self.job is not None and self.job.spec is not None:
            workers = self.job.spec.workers.model_copy(update={"replicas": replicas})
            self._change(spec=self.job.spec.model_copy(update={"workers": workers}))

    def end_child(self, name: str, failure: str | None = None) -> None:
        """A child ends; a worker Job with whatever it had committed."""
        child = self.children[name]
        if child.ended:
            return
        if failure is None and child.role is Role.PREPARE:
            self.manifest = True
        if failure is None and child.role is Role.FINISH:
            self.merged = True
        self.children[name] = replace(
            child, complete=failure is None, failure=failure, ended_s=self.now_s
        )

    def commit_shard(self) -> None:
        if self.unfinished_workers() and self.shards_done < NUM_SHARDS:
            self.shards_done += 1

    def advance(self) -> None:
        """Everybody does the work there is: pods run, shards are committed, Jobs end."""
        for name, child in list(self.children.items()):
            if child.ended:
                continue
            if child.role is Role.WORKER:
                self.shards_done = min(NUM_SHARDS, self.shards_done + 1)
                if self.shards_done < NUM_SHARDS:
                    continue
            self.end_child(name)

    def events(self) -> Iterator[str]:
        """Names of what may happen now."""
        yield from ("commit", "suspend", "resume", "replicas", "delete")
        for name, child in self.children.items():
            if not child.ended:
                yield f"end {name}"
                yield f"kill {name}"
