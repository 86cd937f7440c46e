"""Applies a job to a cluster, and says what that did."""

from __future__ import annotations

from typing import Protocol

from controller.operator.names import PLURAL
from neva.errors import ConfigError
from neva.kube import ApiError, Json

_NOT_FOUND, _CONFLICT = 404, 409
_ADVICE = {
    401: "are the kubeconfig's credentials still good?",
    403: "a role is missing, or -n names the wrong namespace",
    _NOT_FOUND: "is the chart installed there, and its resource definitions?",
    _CONFLICT: "--force-conflicts takes the fields over",
}


class Applies(Protocol):
    """A cluster's jobs, as `UsersCluster` has them. Raises ApiError."""

    def find(self, namespace: str, name: str) -> Json | None: ...

    def apply(self, body: Json, *, force: bool) -> Json: ...


def apply_job(cluster: Applies, body: Json, *, force: bool) -> tuple[Json, str]:
    """Apply a job that has a namespace; returns it as it is now, and what became of it in words.

    Args:
        force: fields that another manager has set are taken over.

    Raises:
        ConfigError: the server refuses, in its words and with the way out.
        ApiError: it can't be reached, or can't answer now.
    """
    name, namespace = body["metadata"]["name"], body["metadata"]["namespace"]
    try:
        before = cluster.find(namespace, name)
        after = cluster.apply(body, force=force)
    except ApiError as error:
        if error.retryable and error.status != _CONFLICT:
            raise
        advice = _ADVICE.get(error.status)
        if error.status == _NOT_FOUND and error.message.startswith("namespaces "):
            advice = f"create it (kubectl create namespace {namespace}), or name another by -n"
        words = f"{error.message.rstrip('.')}; {advice}" if advice else error.message
        raise ConfigError(f"{PLURAL}/{name} in {namespace}: {words}") from error
    if before is None:
        change = "created"
    elif before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]:
        change = "unchanged"
    else:
        change = "configured"
    return after, f"{PLURAL}/{name} {change} in namespace {namespace}"
