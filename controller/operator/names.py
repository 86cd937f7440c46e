"""Names and labels of everything the operator makes. The only place that spells them."""

from __future__ import annotations

import hashlib
from enum import StrEnum

GROUP = "neva-batch.dev"
VERSION = "v1alpha1"
PLURAL = "videonevajobs"
DROP_FOLDERS = "dropfolders"
FINALIZER = f"{GROUP}/cleanup"
FIELD_MANAGER = "neva-batch"
NIGHTLY_FIELD_MANAGER = "neva-nightly"

LABEL_APP = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_JOB = f"{GROUP}/job"
LABEL_ROLE = f"{GROUP}/role"
LABEL_ROUND = f"{GROUP}/round"
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
# Set by the Job controller; the second is the name before Kubernetes 1.27.
LABELS_OF_PODS_JOB = ("batch.kubernetes.io/job-name", "job-name")

ANNOTATION_REPLICAS = f"{GROUP}/replicas"
ANNOTATION_SHARDS_DONE = f"{GROUP}/shards-done-at-start"

APP = "neva-batch"
MANAGER = "neva-batch-controller"
SELECTOR = f"{LABEL_MANAGED_BY}={MANAGER},{LABEL_JOB}"

_MAX_NAME = 63


class Role(StrEnum):
    """What a child Job does; also the name of its container."""

    PREPARE = "prepare"
    WORKER = "worker"
    FINISH = "finish"


def child_name(job: str, role: Role, round_: int = 0) -> str:
    """Name of a child Job: the same for the same job, role and round."""
    suffix = f"-workers-{round_}" if role is Role.WORKER else f"-{role}"
    return bounded(f"{job}{suffix}")


def bounded(name: str) -> str:
    """`name`, or its beginning and a digest of it when it is longer than a label may be."""
    if len(name) <= _MAX_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _MAX_NAME - 9].rstrip('-.')}-{digest}"


def labels(job: str, role: Role, round_: int = 0) -> dict[str, str]:
    """Labels of a child and of its pods."""
    common = {LABEL_APP: APP, LABEL_MANAGED_BY: MANAGER, LABEL_JOB: job, LABEL_ROLE: str(role)}
    return {**common, LABEL_ROUND: str(round_)} if role is Role.WORKER else common
