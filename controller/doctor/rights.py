"""Whether who asks the cluster may do there what is to be done: a person's commands, or the
operator's work.

A service account that is neither is told what it may not do, and that this is no fault by itself:
nobody knows what its pod is for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controller.operator.config import OperatorConfig
from controller.operator.names import DROP_FOLDERS, GROUP, PLURAL
from neva.findings import Finding, ok, problem

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_LEASES = "coordination.k8s.io"
_EVERYWHERE = "all namespaces"


@dataclass(frozen=True, slots=True)
class Right:
    """One thing that may be done, or not.

    Attributes:
        group: API group; "" is the core's.
        resource: in the plural; with its subresource behind a slash.
        name: of the one object; "": all of them.
    """

    verb: str
    group: str
    resource: str
    name: str = ""

    @property
    def words(self) -> str:
        return f"{self.verb} {self.resource}"


def _each(verbs: str, group: str, resource: str, name: str = "") -> tuple[Right, ...]:
    return tuple(Right(verb, group, resource, name) for verb in verbs.split())


OF_PEOPLE = (
    *_each("get list create patch delete", GROUP, PLURAL),
    *_each("list", "", "pods"),
    *_each("get", "", "pods/log"),
)
"""What `neva status`, `submit`, `suspend`, `retry` and `logs` do."""

OF_THE_OPERATOR = (
    *_each("get list watch create patch delete", GROUP, PLURAL),
    *_each("list watch", GROUP, DROP_FOLDERS),
    *_each("patch", GROUP, f"{PLURAL}/status"),
    *_each("patch", GROUP, f"{DROP_FOLDERS}/status"),
    *_each("update", GROUP, f"{PLURAL}/finalizers"),
    *_each("list watch create patch delete", "batch", "jobs"),
    *_each("list watch", "", "pods"),
    *_each("list create", "", "events"),
)
"""What the chart grants its controller."""

WITH_KUEUE = _each("list watch", "kueue.x-k8s.io", "workloads")

Call = Callable[[str, str, Any, str | None], dict[str, Any]]


def persons_rights(call: Call, namespace: str) -> Finding:
    """Those of whoever a kubeconfig names. Raises ApiError, as all here."""
    denied = _denied(call, OF_PEOPLE, namespace)
    if denied:
        return problem(
            "rights",
            f"not allowed in the namespace {namespace}: {', '.join(denied)}",
            "have the chart's ClusterRole …-editor and the cluster's `view` bound to you there",
        )
    return ok("rights", f"jobs and pods' logs of the namespace {namespace}")


def operators_rights(call: Call, config: OperatorConfig) -> Finding:
    """Those of the operator that has this configuration."""
    wanted = (*OF_THE_OPERATOR, *(WITH_KUEUE if config.cluster.kueue else ()))
    denied = []
    for namespace in config.namespaces or [""]:
        where = namespace or _EVERYWHERE
        denied += [f"{words} in {where}" for words in _denied(call, wanted, namespace)]
    if config.leader_election.enabled:
        where = config.leader_election.lease_namespace
        lease = (
            *_each("create", _LEASES, "leases"),
            *_each("get update", _LEASES, "leases", config.leader_election.lease_name),
        )
        denied += [f"{words} in {where}" for words in _denied(call, lease, where)]
    if denied:
        return problem(
            "rights",
            f"the operator is not allowed: {', '.join(denied)}",
            "install the chart with rbac.create, or bind its roles to this service account",
        )
    return ok("rights", f"the operator's, in {', '.join(config.namespaces) or _EVERYWHERE}")


def accounts_rights(call: Call, namespace: str) -> Finding:
    """Those of another pod's service account, in its own namespace."""
    denied = _denied(call, OF_PEOPLE, namespace)
    if not denied:
        return ok("rights", f"this pod's service account: all of the commands', in {namespace}")
    return ok(
        "rights",
        f"this pod's service account may not, in {namespace}: {', '.join(denied)}; "
        "commands that are called here may need it, pods of the chart don't",
    )


def _denied(call: Call, wanted: tuple[Right, ...], namespace: str) -> list[str]:
    return [right.words for right in wanted if not _may(call, namespace, right)]


def _may(call: Call, namespace: str, right: Right) -> bool:
    resource, _, sub = right.resource.partition("/")
    attributes = {
        "namespace": namespace,
        "group": right.group,
        "resource": resource,
        "verb": right.verb,
        **({"subresource": sub} if sub else {}),
        **({"name": right.name} if right.name else {}),
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(call("POST", _REVIEWS, body, None)["status"]["allowed"])
