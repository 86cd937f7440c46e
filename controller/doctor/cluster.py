"""The cluster: it answers, knows our kinds, and lets this user do what the commands do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from controller.operator.names import DROP_FOLDERS, GROUP, PLURAL, VERSION
from neva.errors import ConfigError
from neva.findings import Finding, errors_as_findings, ok, problem, skipped
from neva.spec import VideoNevaJob
from neva.targets import import_kube

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
# (group, resource, subresource, verb) of `neva status`, `suspend`, `retry`, `logs`.
_NEEDED = (
    (GROUP, PLURAL, "", "get"),
    (GROUP, PLURAL, "", "list"),
    (GROUP, PLURAL, "", "create"),
    (GROUP, PLURAL, "", "patch"),
    (GROUP, PLURAL, "", "delete"),
    ("", "pods", "", "list"),
    ("", "pods", "log", "get"),
)
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_NOT_FOUND = 404


def examine(job: VideoNevaJob | None) -> Iterator[Finding]:
    """Changes nothing. In the job's namespace, or the kubeconfig's."""
    found: list[Finding] = []
    try:
        kube = import_kube()
    except ConfigError as error:
        yield skipped("cluster", error.message)
        return
    if not kube.has_kubeconfig() and _IN_CLUSTER not in os.environ:
        yield skipped("cluster", "no kubeconfig here")
        return
    with errors_as_findings("cluster", found, "correct KUBECONFIG, or start the cluster"):
        transport = kube.ClientTransport.of_user()
        namespace = _namespace_of(job) or kube.own_namespace()
        version = transport("GET", "/version", None, None)
        host = transport.client.configuration.host
        found.append(ok("cluster", f"Kubernetes {version.get('gitVersion')} at {host}"))
        found.append(_kinds(transport, kube.ApiError))
        found.append(_rights(transport, namespace))
    yield from found


def _namespace_of(job: VideoNevaJob | None) -> str | None:
    """A job file may name one, which `neva run` has no use for."""
    extra = (job.metadata.model_extra or {}) if job is not None else {}
    return extra.get("namespace")


def _kinds(transport: Any, api_error: type[Exception]) -> Finding:
    advice = "install the chart, or: kubectl apply -f charts/neva-batch/files/crds/"
    try:
        listed = transport("GET", f"/apis/{GROUP}/{VERSION}", None, None)
    except api_error as error:
        if getattr(error, "status", None) != _NOT_FOUND:
            raise
        return problem("kinds", f"{GROUP}/{VERSION} is not installed there", advice)
    names = {resource["name"] for resource in listed.get("resources") or []}
    missing = [name for name in (PLURAL, DROP_FOLDERS) if name not in names]
    if missing:
        return problem("kinds", f"{', '.join(missing)} of {GROUP} are not installed", advice)
    return ok("kinds", f"{PLURAL} and {DROP_FOLDERS} of {GROUP}/{VERSION} are installed")


def _rights(transport: Any, namespace: str) -> Finding:
    denied = [
        f"{verb} {resource}{f'/{sub}' if sub else ''}"
        for group, resource, sub, verb in _NEEDED
        if not _may(transport, namespace, (group, resource, sub, verb))
    ]
    if denied:
        return problem(
            "rights",
            f"not allowed in the namespace {namespace}: {', '.join(denied)}",
            "have the chart's ClusterRole …-editor and the cluster's `view` bound to you there",
        )
    return ok("rights", f"jobs and pods' logs of the namespace {namespace}")


def _may(transport: Any, namespace: str, what: Sequence[str]) -> bool:
    group, resource, sub, verb = what
    attributes = {"namespace": namespace, "group": group, "resource": resource, "verb": verb}
    if sub:
        attributes["subresource"] = sub
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    return bool(transport("POST", _REVIEWS, body, None)["status"]["allowed"])
