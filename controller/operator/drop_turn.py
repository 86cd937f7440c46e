"""One turn of one drop folder: take care of ended jobs' inputs, list, make jobs, tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from controller.drop.bucket import Bucket, check_watchable
from controller.drop.done import leave_record, outputs_of
from controller.drop.listener import Listener, Notice
from controller.drop.manifest import ANNOTATION_TAKEN_CARE_OF, LABEL_FOLDER, drop_of, job_of
from controller.drop.scan import Drop, Listed, Settling, decide, find_drops, may_be_drop
from controller.operator.api import ApiError, KubeApi
from controller.operator.drop_care import care_for, care_for_leftover, phase_of
from controller.operator.drop_status import (
    FolderSeen,
    folder_status,
    job_created_event,
    worth_writing,
)
from controller.operator.names import GROUP, VERSION, bounded
from controller.operator.world import Key
from neva.conditions import ConditionReason
from neva.drop_folder import DROP_FOLDER_KIND, DropFolder, DropFolderSpec
from neva.errors import ConfigError
from neva.job_file import JobFileError
from neva.store import StoreError

log = structlog.get_logger()

Json = Mapping[str, Any]

SLOW_POLLS = 10  # with notifications, listings are that much rarer
_MAX_NAMED = 20  # more named drops than that, and one listing is cheaper


class Jobs(Protocol):
    """The jobs of drop folders, by namespace and label."""

    def jobs_of(self, labelled: Key) -> dict[str, Json]: ...

    def replace_jobs(self, labelled: Key, bodies: list[Json]) -> None: ...

    def put_job(self, body: Json) -> None: ...


@dataclass(eq=False)
class FolderMemory:
    """What is remembered of one folder between turns; times are monotonic seconds.

    Attributes:
        ran: folders below outputBase; None until they were listed.
        handled: leftovers whose inputs were taken care of, or are to stay.
        named: keys that notifications told, and when to look at them.
        num_seen: drops at the last listing. num_started: jobs made.
        refused: why drops, by key, made no valid job at the last look.
        status: as it was written last.
        failed: the last turn did not do everything.
    """

    identity: tuple[str, int]
    settling: Settling = field(default_factory=Settling)
    ran: set[str] | None = None
    handled: set[str] = field(default_factory=set)
    named: dict[str, float] = field(default_factory=dict)
    scan_due_s: float = 0.0
    scanned_s: float | None = None
    num_seen: int = 0
    num_started: int = 0
    num_waiting: int = 0
    num_settling: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    problem: tuple[ConditionReason, str] | None = None
    listener: Listener | None = None
    status: Mapping[str, Any] | None = None
    failed: bool = False

    def stop(self) -> None:
        if self.listener is not None:
            self.listener.stop()


class Turn:
    """One look at one folder.

    Args:
        now_s: seconds since the epoch; mono_s: monotonic seconds.
    """

    def __init__(
        self,
        api: KubeApi,
        jobs: Jobs,
        body: Json,
        memory: FolderMemory,
        now_s: float,
        mono_s: float,
    ) -> None:
        self._api = api
        self._jobs = jobs
        self._body = body
        self._memory = memory
        self._now_s = now_s
        self._mono_s = mono_s
        self._namespace = body["metadata"]["namespace"]
        self._name = body["metadata"]["name"]
        self._label = bounded(self._name)

    def run(self, wake: Callable[[], None]) -> float:
        """Do it; returns the seconds until the next turn.

        Raises:
            ApiError: the cluster refused something; the turn is to be repeated.
        """
        memory = self._memory
        memory.failed, memory.problem = False, None
        try:
            spec = self._spec()
            watched, written = check_watchable(self._raw)
        except ConfigError as error:
            self._tell((ConditionReason.INVALID_SPEC, error.message), 1)
            return 3600.0
        self._care_for_ended(spec, watched)
        if spec.suspend:
            memory.stop()
            memory.listener = None
            words = "no new jobs are made; those that run go on"
            self._tell((ConditionReason.FOLDER_SUSPENDED, words), spec.concurrency)
            return 3600.0
        notices = self._notices(spec, watched, wake)
        try:
            self._scan(spec, watched, written)
        except StoreError as error:
            memory.failed = True
            memory.problem = (ConditionReason.SCAN_FAILED, f"{error.reason}: {error.message}")
        if memory.listener is not None and not memory.failed:
            memory.listener.delete(notices)
        self._tell(None, spec.concurrency)
        due_s = min([memory.scan_due_s, *memory.named.values()])
        return max(0.0, due_s - self._mono_s)

    # Jobs that ended

    def _care_for_ended(self, spec: DropFolderSpec, watched: Bucket) -> None:
        for name, job in self._all_jobs().items():
            phase = phase_of(job)
            annotations = job["metadata"].get("annotations") or {}
            if not phase.is_final or ANNOTATION_TAKEN_CARE_OF in annotations:
                continue
            drop = drop_of(job)
            if drop is None:
                continue
            try:
                fate = care_for(spec, watched, drop, job)
            except StoreError as error:
                self._memory.failed = True
                words = f"inputs of {name}: {error.reason}: {error.message}"
                self._memory.problem = (ConditionReason.SCAN_FAILED, words)
                continue
            log.info("inputs done", folder=self._name, job=name, phase=phase, fate=fate)
            try:
                marked = self._api.annotate_job(dict(job), {ANNOTATION_TAKEN_CARE_OF: fate})
                self._jobs.put_job(marked)
            except ApiError as error:
                if error.status != 404:  # deleted meanwhile: nothing to mark
                    raise

    # New jobs

    def _scan(self, spec: DropFolderSpec, watched: Bucket, written: Bucket) -> None:
        memory = self._memory
        freed = memory.num_waiting > 0 and self._num_free(spec) > 0
        named = [key for key, due_s in memory.named.items() if due_s <= self._mono_s]
        if self._mono_s >= memory.scan_due_s or freed or len(named) > _MAX_NAMED:
            drops = self._find(spec, watched.list(skip=spec.done.prefix), watched)
            self._act(spec, watched, written, drops, whole=True)
            polls = SLOW_POLLS if memory.listener is not None else 1
            memory.scan_due_s = self._mono_s + polls * spec.poll_seconds
            memory.scanned_s = self._now_s
            memory.settling.keep_only({drop.key for drop in drops})
        elif named:
            drops = self._find(spec, watched.list_drops(named), watched)
            self._act(spec, watched, written, drops, whole=False)
            for key in named:
                if memory.named[key] <= self._mono_s:
                    del memory.named[key]

    def _find(self, spec: DropFolderSpec, listing: Iterable[Listed], watched: Bucket) -> list[Drop]:
        return find_drops(
            listing,
            base_uri=watched.uri,
            folder_name=self._name,
            marker=spec.marker,
            skip=spec.done.prefix,
        )

    def _act(
        self,
        spec: DropFolderSpec,
        watched: Bucket,
        written: Bucket,
        drops: list[Drop],
        *,
        whole: bool,
    ) -> None:
        memory = self._memory
        left_s = memory.settling.look(drops, self._mono_s, spec.settle_seconds)
        known = self._all_jobs()
        new = [d for d in drops if d.name not in known and left_s[d.key] <= 0]
        unknown = [d for d in new if d.name not in (memory.ran or ())]
        if unknown and (memory.ran is None or self._num_free(spec) > 0):
            # The truth, before anything is made: watches may be behind.
            selector = f"{LABEL_FOLDER}={self._label}"
            bodies = list(self._api.list_jobs_labelled(self._namespace, selector))
            self._jobs.replace_jobs(self._labelled, list(bodies))
            memory.ran = written.folders()
        decisions = decide(
            drops,
            left_s,
            jobs={name: not phase_of(j).is_final for name, j in self._all_jobs().items()},
            ran=memory.ran or (),
            concurrency=spec.concurrency,
        )
        for drop in decisions.leftovers:
            if drop.name not in memory.handled:
                care_for_leftover(spec, watched, drop)
                memory.handled.add(drop.name)
        memory.refused.clear()
        for drop in decisions.start:
            self._make_job(spec, drop)
        if whole:
            memory.num_seen = len(drops)
            memory.num_waiting, memory.num_settling = decisions.waiting, decisions.settling
            memory.named.clear()
        else:
            memory.num_waiting = max(memory.num_waiting, decisions.waiting)
        if memory.listener is not None:
            for drop in drops:
                if left_s[drop.key] > 0:
                    memory.named[drop.key] = self._mono_s + left_s[drop.key]

    def _make_job(self, spec: DropFolderSpec, drop: Drop) -> None:
        try:
            body = job_of(drop, self._label, self._namespace, self._raw)
            created = self._api.create_job(body)
        except JobFileError as error:
            self._refused(drop, "; ".join(error.problems))
            return
        except ApiError as error:
            if error.status in (400, 403, 422):
                self._refused(drop, error.message)
                return
            if error.status != 409:
                raise
            log.info("job is there already", folder=self._name, job=drop.name)
            existing = self._api.get_job(self._namespace, drop.name)
            if existing is not None:
                self._jobs.put_job(existing)
            return
        log.info("job made", folder=self._name, job=drop.name, key=drop.key)
        self._memory.num_started += 1
        self._jobs.put_job(created)
        leave_record(outputs_of(spec.output_base, drop), drop, self._raw["uri"] + drop.key)
        try:
            self._api.create_event(job_created_event(self._body, drop, self._now_s))
        except ApiError as error:
            log.warning("event not told", folder=self._name, error=error.message)

    def _refused(self, drop: Drop, words: str) -> None:
        log.warning("no valid job", folder=self._name, key=drop.key, error=words)
        self._memory.refused[drop.key] = words
        self._memory.problem = (ConditionReason.JOB_REFUSED, f"{drop.key}: {words}")

    # Notifications

    def _notices(
        self, spec: DropFolderSpec, watched: Bucket, wake: Callable[[], None]
    ) -> list[Notice]:
        memory = self._memory
        if spec.sqs is None:
            return []
        if memory.listener is None:
            memory.listener = Listener(spec.sqs.queue_url, watched.name, watched.prefix, wake)
            memory.listener.start()
        notices = memory.listener.take()
        for notice in notices:
            for key in notice.keys:
                if may_be_drop(key, spec.marker):
                    memory.named[key] = self._mono_s
        return notices

    # Telling

    def _tell(self, not_ready: tuple[ConditionReason, str] | None, concurrency: int) -> None:
        memory = self._memory
        old = memory.status if memory.status is not None else self._body.get("status") or {}
        seen = FolderSeen(
            generation=self._body["metadata"].get("generation", 1),
            phases=tuple(phase_of(job) for job in self._all_jobs().values()),
            waiting=memory.num_waiting,
            settling=memory.num_settling,
            num_refused=len(memory.refused),
            concurrency=concurrency,
            scanned_s=memory.scanned_s,
            not_ready=not_ready,
            problem=memory.problem,
        )
        status = folder_status(seen, old, self._now_s)
        if worth_writing(old, status):
            self._api.write_folder_status(dict(self._body), status)
            memory.status = status

    # Helpers

    @property
    def _raw(self) -> dict[str, Any]:
        return dict(self._body["spec"])

    @property
    def _labelled(self) -> Key:
        return self._namespace, self._label

    def _all_jobs(self) -> dict[str, Json]:
        return self._jobs.jobs_of(self._labelled)

    def _num_free(self, spec: DropFolderSpec) -> int:
        active = sum(not phase_of(job).is_final for job in self._all_jobs().values())
        return spec.concurrency - active

    def _spec(self) -> DropFolderSpec:
        data = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": DROP_FOLDER_KIND,
            "metadata": {"name": self._name},
            "spec": self._body.get("spec") or {},
        }
        try:
            return DropFolder.model_validate(data).spec
        except ValidationError as error:
            words = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise ConfigError("; ".join(words)) from error
