"""Does what was planned, through the API, the broker and the ledger.

What must not be done on an old observation is checked against the API server right before: a child
is made only if the job is still there, still wanted and has no rival child; the finalizer goes only
when no child is left. Everything else carries a resource version or a uid as its condition.
"""

from __future__ import annotations

from typing import Any

from controller.operator.actions import (
    CreateChild,
    DeleteChild,
    DeleteJob,
    PurgeRun,
    ScaleWorkers,
    SetFinalizer,
    TellEvent,
    WriteStatus,
)
from controller.operator.api import ApiError, Json, KubeApi
from controller.operator.config import OperatorConfig
from controller.operator.manifests import child_job
from controller.operator.names import (
    ANNOTATION_REPLICAS,
    FINALIZER,
    GROUP,
    LABEL_JOB,
    MANAGER,
    VERSION,
    Role,
    labels,
)
from controller.operator.read import is_owned_by, read_child, read_job
from controller.operator.runs import Runs
from controller.operator.seen import JobSeen
from controller.operator.status import rfc3339
from controller.operator.world import World
from neva.conditions import Phase
from neva.errors import NevaError
from neva.spec import KIND

ApiAction = (
    SetFinalizer
    | CreateChild
    | ScaleWorkers
    | DeleteChild
    | WriteStatus
    | TellEvent
    | PurgeRun
    | DeleteJob
)


class Stale(NevaError):
    """What was planned on is no longer so: look again."""

    retryable = True


class Actor:
    """Carries actions out; what the API answers goes into the world at once."""

    def __init__(self, api: KubeApi, world: World, runs: Runs, config: OperatorConfig) -> None:
        self._api = api
        self._world = world
        self._runs = runs
        self._config = config

    def do(self, action: ApiAction, job: JobSeen, now_s: float) -> None:
        """Do it.

        Raises:
            Stale: it was planned on an old observation; the world now knows better.
            ApiError, RedisError: it did not work; planning again will repeat it.
        """
        match action:
            case SetFinalizer(present):
                self._set_finalizer(job, present)
            case CreateChild():
                self._create(job, action)
            case ScaleWorkers():
                self._scale(job, action)
            case DeleteChild():
                self._api.delete_child(job.namespace, action.name, action.uid)
            case WriteStatus():
                body = self._at(job)
                self._world.put_job(self._conditional(body, self._api.write_status, action.status))
            case TellEvent():
                self._api.create_event(_event(action, job, now_s))
            case PurgeRun(run_id):
                self._runs.purge(run_id)
            case DeleteJob():
                self._api.delete_job(self._at(job))

    def refresh(self, job: JobSeen) -> Json | None:
        """The job as the API server has it now; None when it is gone or another one."""
        body = self._api.get_job(job.namespace, job.name)
        if body is None or body["metadata"]["uid"] != job.uid:
            self._world.drop_job((job.namespace, job.name))
        if body is not None:
            self._world.put_job(body)
        return body if body is not None and body["metadata"]["uid"] == job.uid else None

    # Actions

    def _set_finalizer(self, job: JobSeen, present: bool) -> None:
        body = self._at(job)
        finalizers = [name for name in body["metadata"].get("finalizers") or []]
        if (FINALIZER in finalizers) == present:
            return
        if present:
            finalizers.append(FINALIZER)
        else:
            left = self._children(job)
            if left:
                for child in left:
                    self._delete(job, child)
                raise Stale(f"{len(left)} children are still there")
            finalizers.remove(FINALIZER)
        self._world.put_job(self._conditional(body, self._api.set_finalizers, finalizers))

    def _create(self, job: JobSeen, action: CreateChild) -> None:
        body = self.refresh(job)
        if body is None:
            raise Stale("the job is gone")
        fresh = read_job(body)
        phase = fresh.status.get("phase")
        is_over = phase in (Phase.SUCCEEDED, Phase.FAILED) and fresh.spec == job.spec
        if fresh.deleted_s is not None or fresh.spec is None or fresh.spec.suspend or is_over:
            raise Stale("the job is not to go on")
        rivals = []
        for child in self._children(job):
            seen = read_child(child)
            if not is_owned_by(child, job.uid):
                self._delete(job, child)
                rivals.append(child)
            elif seen is not None and seen.role is action.role:
                known = seen.ended and seen.role is Role.WORKER and seen.round < action.round
                rivals += [] if known else [child]
        if rivals:
            raise Stale(f"{rivals[0]['metadata']['name']} is there already")
        run_id = fresh.status.get("runId")
        if action.role is Role.WORKER and run_id:
            self._runs.start_round(run_id)
        manifest = child_job(fresh, action, self._config)
        self._world.put_child(self._api.apply_child(manifest))

    def _scale(self, job: JobSeen, action: ScaleWorkers) -> None:
        body = {
            "metadata": {"annotations": {ANNOTATION_REPLICAS: str(action.replicas)}},
            "spec": {"parallelism": action.parallelism},
        }
        try:
            answer = self._api.patch_child(job.namespace, action.name, body)
        except ApiError as error:
            if error.status == 404:
                raise Stale(f"{action.name} is gone") from error
            raise
        self._world.put_child(answer)

    # Helpers

    def _children(self, job: JobSeen) -> list[Json]:
        """The children now, by the API server."""
        app = labels(job.name, Role.PREPARE)
        selector = ",".join(f"{key}={app[key]}" for key in (LABEL_JOB, *_MANAGED))
        bodies = list(self._api.list_children(job.namespace, selector))
        self._world.replace_children((job.namespace, job.name), bodies)
        return bodies

    def _delete(self, job: JobSeen, child: Json) -> None:
        metadata = child["metadata"]
        self._api.delete_child(job.namespace, metadata["name"], metadata["uid"])

    def _at(self, job: JobSeen) -> Json:
        """The raw job that was planned on."""
        body = self._world.job_body((job.namespace, job.name))
        if body is None or body["metadata"]["resourceVersion"] != job.resource_version:
            raise Stale("the job has changed")
        return {"kind": KIND, **body}

    def _conditional(self, body: Json, write: Any, what: Any) -> Json:
        try:
            answer: Json = write(body, what)
        except ApiError as error:
            if error.status in (404, 409):
                self.refresh(read_job(body))
                raise Stale(error.message) from error
            raise
        return answer


_MANAGED = ("app.kubernetes.io/managed-by",)


def _event(action: TellEvent, job: JobSeen, now_s: float) -> Json:
    now = rfc3339(now_s)
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": action.name, "namespace": job.namespace},
        "involvedObject": {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
            "resourceVersion": job.resource_version,
        },
        "reason": action.reason,
        "message": action.message,
        "type": "Warning" if action.warning else "Normal",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
