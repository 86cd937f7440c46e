"""The pod of a child, as PodSecurity's level `restricted` wants it. Pure.

Only /tmp, the cache and /dev/shm can be written to. A pod gets the Secrets it needs and no others:
the broker's URL goes to workers, the judge's key to the finish pod.
"""

from __future__ import annotations

import json
from typing import Any

from controller.operator.config import KeyRef, OperatorConfig, PodDefaults
from controller.operator.names import GROUP, VERSION, Role
from controller.operator.overlay import overlay
from controller.operator.seen import JobSeen
from neva.spec import KIND, JobSpec

CACHE_DIR = "/var/cache/neva"
_STORAGE_CA_DIR = "/etc/neva/storage-ca"
_REDIS_CA_DIR = "/etc/neva/redis-ca"
_USER = 10001
# Longer than a worker's drain (NEVA_DRAIN_S, 20 s) and what it takes to end its processes.
GRACE_S = 60
API_KEY_VARIABLE = "API_TOKEN"


def job_container_env(
    job: JobSeen, spec: JobSpec, role: Role, config: OperatorConfig
) -> list[dict[str, Any]]:
    """The environment of a role's container, Secrets by reference."""
    raw_spec = dict(job.raw_spec)
    if isinstance(raw_spec.get("workers"), dict):
        workers = {k: v for k, v in raw_spec["workers"].items() if k != "podTemplate"}
        raw_spec["workers"] = workers
    data = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": job.name},
        "spec": {**raw_spec, "suspend": False},
    }
    job_json = json.dumps(data, separators=(",", ":"), sort_keys=True)
    env = [
        {"name": "NEVA_JOB", "value": literal(job_json)},
        {"name": "NEVA_CACHE_DIR", "value": CACHE_DIR},
        {"name": "HOME", "value": "/tmp"},
    ]
    if config.pod_metrics_port is not None:
        env.append({"name": "NEVA_METRICS_PORT", "value": str(config.pod_metrics_port)})
    if role is Role.WORKER:
        env.append(_secret_env("NEVA_REDIS_URL", config.redis.secret_name, config.redis.secret_key))
    if role is Role.FINISH and spec.judge is not None and spec.judge.api_key_secret:
        env.append(_secret_env(API_KEY_VARIABLE, spec.judge.api_key_secret, API_KEY_VARIABLE))
    storage = config.storage
    if storage.endpoint_url is not None:
        env.append({"name": "AWS_ENDPOINT_URL", "value": storage.endpoint_url})
    if storage.region is not None:
        env.append({"name": "AWS_REGION", "value": storage.region})
    if storage.ca_config_map is not None:
        path = f"{_STORAGE_CA_DIR}/{storage.ca_config_map.key}"
        env.append({"name": "AWS_CA_BUNDLE", "value": path})
    return env


def literal(text: str) -> str:
    """`text` so that a kubelet passes it on as it is: it reads $(NAME) as a variable, $$ as $.

    https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
    """
    return text.replace("$", "$$")


def _secret_env(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def pod_template(
    *,
    role: Role,
    labels: dict[str, str],
    command: list[str],
    image: str,
    env: list[dict[str, Any]],
    spec: JobSpec,
    config: OperatorConfig,
    defaults: PodDefaults,
    service_account: str | None,
) -> dict[str, Any]:
    """The pod template of a child."""
    storage_secret = spec.storage.secret_name if spec.storage else config.storage.secret_name
    env_from = [{"secretRef": {"name": storage_secret}}] if storage_secret else []
    volumes, mounts = _volumes(role, spec, config, defaults)
    container: dict[str, Any] = {
        "name": str(role),
        "image": image,
        "imagePullPolicy": config.image_pull_policy,
        "command": command,
        "env": overlay({"env": env}, {"env": defaults.env})["env"],
        "envFrom": [*env_from, *defaults.env_from],
        "ports": _ports(config),
        "resources": defaults.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, *defaults.volume_mounts],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": service_account,
        "imagePullSecrets": [{"name": secret.name} for secret in config.image_pull_secrets],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "nodeSelector": defaults.node_selector,
        "tolerations": defaults.tolerations,
        "affinity": defaults.affinity,
        "priorityClassName": defaults.priority_class_name,
        "runtimeClassName": defaults.runtime_class_name,
        "topologySpreadConstraints": (
            list(spec.workers.topology_spread_constraints) if role is Role.WORKER else []
        ),
        "containers": [_without_empty(container)],
        "volumes": [*volumes, *defaults.volumes],
    }
    metadata = {"labels": {**defaults.labels, **labels}, "annotations": defaults.annotations}
    return {"metadata": _without_empty(metadata), "spec": _without_empty(pod)}


def _volumes(
    role: Role, spec: JobSpec, config: OperatorConfig, defaults: PodDefaults
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "cache", **defaults.cache_volume},
    ]
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "cache", "mountPath": CACHE_DIR},
    ]
    if role is Role.WORKER:
        memory = {"medium": "Memory", "sizeLimit": spec.workers.shm_size}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    bundles: list[tuple[str, KeyRef | None, str]] = [
        ("storage-ca", config.storage.ca_config_map, _STORAGE_CA_DIR)
    ]
    if role is Role.WORKER:
        bundles.append(("redis-ca", config.redis.ca_config_map, _REDIS_CA_DIR))
    for name, ref, folder in bundles:
        if ref is not None:
            items = [{"key": ref.key, "path": ref.key}]
            volumes.append({"name": name, "configMap": {"name": ref.name, "items": items}})
            mounts.append({"name": name, "mountPath": folder, "readOnly": True})
    return volumes, mounts


def _ports(config: OperatorConfig) -> list[dict[str, Any]]:
    if config.pod_metrics_port is None:
        return []
    return [{"name": "metrics", "containerPort": config.pod_metrics_port}]


def _without_empty(block: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in block.items() if value not in (None, {}, [])}
