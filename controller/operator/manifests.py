"""The child Jobs as manifests. Pure: the same job and configuration give the same bytes.

A worker Job has no completions (the work-queue pattern): a worker that finds nothing left to do
ends with 0, and when one has, no lost one is replaced. Disruptions don't count against the
backoff limit, nor do workers that were told to stop (fewer `replicas`, Kueue's preemption), which a
Job would count as failed; exit code 64 (and 2 and 3 of the CPU pods) ends the Job at once.
"""

from __future__ import annotations

from typing import Any

from controller.exits import (
    EXIT_INVALID,
    EXIT_ROWS_FAILED,
    EXIT_WORKER_CONFIG,
    EXIT_WORKER_DRAINED,
)
from controller.operator.actions import CreateChild
from controller.operator.config import OperatorConfig, PodDefaults
from controller.operator.names import (
    ANNOTATION_REPLICAS,
    ANNOTATION_SHARDS_DONE,
    GROUP,
    LABEL_QUEUE,
    VERSION,
    Role,
    child_name,
    labels,
)
from controller.operator.overlay import overlay
from controller.operator.pod_spec import job_container_env, literal, pod_template
from controller.operator.seen import JobSeen
from neva.errors import ConfigError
from neva.spec import KIND, JobSpec

_CPU_BACKOFF_LIMIT = 6


def child_job(job: JobSeen, child: CreateChild, config: OperatorConfig) -> dict[str, Any]:
    """The manifest of a child.

    Raises:
        ConfigError: the job's spec can't be honoured.
    """
    if job.spec is None:
        raise ConfigError(job.problem)
    if child.role is Role.WORKER:
        return _worker_job(job, job.spec, child, config)
    return _cpu_job(job, job.spec, child.role, config)


def _worker_job(
    job: JobSeen, spec: JobSpec, child: CreateChild, config: OperatorConfig
) -> dict[str, Any]:
    workers = spec.workers
    template = pod_template(
        role=Role.WORKER,
        labels=labels(job.name, Role.WORKER, child.round),
        command=["neva", "worker", "--output", literal(spec.output.uri), "--until-done"],
        image=workers.image or config.worker_image,
        env=job_container_env(job, spec, Role.WORKER, config),
        spec=spec,
        config=config,
        defaults=_with_workers(config.worker_defaults, spec),
        service_account=workers.service_account_name or config.worker_service_account,
    )
    if workers.pod_template is not None:
        template = _overridden(template, workers.pod_template)
    manifest = _job(
        job,
        child_name(job.name, Role.WORKER, child.round),
        labels(job.name, Role.WORKER, child.round),
        {
            "parallelism": child.parallelism,
            "backoffLimit": workers.backoff_limit,
            "podFailurePolicy": _failure_policy(
                Role.WORKER, [EXIT_WORKER_CONFIG], [EXIT_WORKER_DRAINED]
            ),
            "template": template,
        },
    )
    manifest["metadata"]["annotations"] = {
        ANNOTATION_REPLICAS: str(workers.replicas),
        ANNOTATION_SHARDS_DONE: str(child.shards_done),
    }
    if workers.queue_name is not None:
        manifest["metadata"]["labels"][LABEL_QUEUE] = workers.queue_name
        manifest["spec"]["suspend"] = True
    return manifest


def _cpu_job(job: JobSeen, spec: JobSpec, role: Role, config: OperatorConfig) -> dict[str, Any]:
    template = pod_template(
        role=role,
        labels=labels(job.name, role),
        command=["neva", str(role)],
        image=config.controller_image,
        env=job_container_env(job, spec, role, config),
        spec=spec,
        config=config,
        defaults=config.finish_defaults,
        service_account=config.finish_service_account,
    )
    return _job(
        job,
        child_name(job.name, role),
        labels(job.name, role),
        {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": _CPU_BACKOFF_LIMIT,
            "podFailurePolicy": _failure_policy(role, [EXIT_INVALID, EXIT_ROWS_FAILED]),
            "template": template,
        },
    )


def _job(
    job: JobSeen, name: str, job_labels: dict[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    owner = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    metadata = {
        "name": name,
        "namespace": job.namespace,
        "labels": dict(job_labels),
        "ownerReferences": [owner],
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def _failure_policy(
    role: Role, final_codes: list[int], told_codes: list[int] | None = None
) -> dict[str, Any]:
    def exits(action: str, values: list[int]) -> dict[str, Any]:
        codes = {"containerName": str(role), "operator": "In", "values": values}
        return {"action": action, "onExitCodes": codes}

    disrupted = {"type": "DisruptionTarget", "status": "True"}
    rules = [{"action": "Ignore", "onPodConditions": [disrupted]}, exits("FailJob", final_codes)]
    return {"rules": [*rules, exits("Ignore", told_codes)] if told_codes else rules}


def _with_workers(defaults: PodDefaults, spec: JobSpec) -> PodDefaults:
    """The release's defaults under what the job says of its worker pods."""
    workers = spec.workers
    gpus = workers.gpus_per_worker
    if gpus is None:
        gpus = spec.model.tensor_parallel_size * spec.model.pipeline_parallel_size
    resources = overlay(
        defaults.resources,
        {"requests": dict(workers.resources.requests), "limits": dict(workers.resources.limits)},
    )
    if gpus:
        resources = overlay(
            resources,
            {
                "requests": {workers.gpu_resource_name: str(gpus)},
                "limits": {workers.gpu_resource_name: str(gpus)},
            },
        )
    tolerations = [t.model_dump(by_alias=True, exclude_none=True) for t in workers.tolerations]
    return defaults.model_copy(
        update={
            "resources": {kind: values for kind, values in resources.items() if values},
            "node_selector": {**defaults.node_selector, **workers.node_selector},
            "tolerations": [*defaults.tolerations, *tolerations],
            "affinity": workers.affinity or defaults.affinity,
            "priority_class_name": workers.priority_class_name or defaults.priority_class_name,
            "runtime_class_name": workers.runtime_class_name or defaults.runtime_class_name,
        }
    )


def _overridden(template: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """The template with the user's merged in; what the operator itself relies on stays."""
    merged = overlay(template, {key: over[key] for key in ("metadata", "spec") if key in over})
    merged["metadata"]["labels"] = {
        **merged["metadata"].get("labels", {}),
        **template["metadata"]["labels"],
    }
    merged["spec"]["restartPolicy"] = "Never"
    return merged
