"""The cluster: it answers, knows our kinds, and lets whoever asks do what is to be done there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from controller.doctor.rights import accounts_rights, operators_rights, persons_rights
from controller.operator.config import CONFIG_VARIABLE, load_config
from controller.operator.names import DROP_FOLDERS, GROUP, PLURAL, VERSION
from neva.errors import ConfigError
from neva.findings import Finding, errors_as_findings, ok, problem, skipped
from neva.spec import VideoNevaJob
from neva.targets import import_kube

_IN_CLUSTER = "KUBERNETES_SERVICE_HOST"
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
    if not kube.has_kubeconfig() and not kube.has_pod_token():
        yield skipped("cluster", "this pod has no service account's token; a job's pods need none")
        return
    with errors_as_findings("cluster", found, "correct KUBECONFIG, or start the cluster"):
        transport = kube.ClientTransport.of_user()
        version = transport("GET", "/version", None, None)
        host = transport.client.configuration.host
        found.append(ok("cluster", f"Kubernetes {version.get('gitVersion')} at {host}"))
        found.append(_kinds(transport, kube.ApiError))
        found.append(_rights(transport, kube, job))
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


def _rights(transport: Any, kube: Any, job: VideoNevaJob | None) -> Finding:
    """Those of whoever asks: the operator, a person, or another pod."""
    if (config := os.environ.get(CONFIG_VARIABLE)) is not None:
        return operators_rights(transport, load_config(Path(config)))
    namespace = _namespace_of(job) or kube.own_namespace()
    if kube.has_kubeconfig():
        return persons_rights(transport, namespace)
    return accounts_rights(transport, namespace)
