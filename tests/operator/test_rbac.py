"""What the operator asks of a cluster, against what the chart grants it: no more, no less."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import kubernetes
import pytest

from neva.store import open_store
from tests.chart.rendering import Manifest, of_kind, render
from tests.kube.emulator.requests import Fault, Request, RequestLog
from tests.operator.bench import GROUP, Bench

Right = tuple[str, str, str]
"""(group, resource with its subresource, verb)"""

# Granted, and never asked for here.
_NOT_SEEN: dict[Right, str] = {
    ("neva-batch.dev", "videonevajobs/finalizers", "update"): "asked by the API server itself, "
    "where OwnerReferencesPermissionEnforcement is on: children block their owner's deletion",
}


def _granted(namespace: str) -> set[Right]:
    """The rights of the controller's ServiceAccount in one namespace, its own."""
    values = {"controller": {"namespaces": [namespace]}}
    manifests = render(values, name="operator", namespace=namespace)
    accounts = {
        (ref["kind"], ref["name"])
        for binding in of_kind(manifests, "RoleBinding")
        for ref in [binding["roleRef"]]
        if any("controller" in subject["name"] for subject in binding["subjects"])
    }
    roles = [r for r in of_kind(manifests, "Role") if ("Role", r["metadata"]["name"]) in accounts]
    return set(_rights(roles))


def _rights(roles: Iterable[Manifest]) -> Iterable[Right]:
    for role in roles:
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        yield group, resource, verb


def _asked(requests: Iterable[Request]) -> set[Right]:
    asked = set[Right]()
    for request in requests:
        resource = "/".join(filter(None, (request.resource, request.subresource)))
        asked.add((request.group, resource, request.verb))
        if request.content_type.startswith("application/apply-patch") and request.status == 201:
            # An apply that makes the object needs both rights.
            asked.add((request.group, resource, "create"))
    return asked


def test_every_request_is_allowed_and_every_right_is_used(bench: Bench) -> None:
    if bench.cluster.emulator is None:
        pytest.skip("a real API server tells nobody what it was asked")
    requests = bench.cluster.emulator.requests
    # A course with all that happens now and then: pods refused, a Secret that is missing for a
    # while, a drop that becomes a job, replicas changed, an end by time.
    refuse = Fault(lambda r: (r.resource, r.verb) == ("pods", "create"), times=10**6, status=403)
    requests.break_requests(refuse)
    bench.apply(bench.manifest(storage={"secretName": "mine"}, ttlSecondsAfterFinished=1))
    bench.wait("events are asked", lambda: ("", "events", "list") in _asked(_ours(requests, bench)))
    requests.heal()
    bench.wait(
        "the missing Secret is told",
        lambda: bench.condition("kitchen", "Validated").get("reason") == "MissingSecret",
    )
    _make_drop_folder(bench)
    bench.wait("the drop is a job", lambda: len(bench._jobs()) == 2)
    core = kubernetes.client.CoreV1Api(bench.client)
    found = core.read_namespaced_secret("storage", bench.namespace).data
    core.create_namespaced_secret(bench.namespace, {"metadata": {"name": "mine"}, "data": found})
    bench.wait_phase("kitchen", "Running")
    bench.patch("kitchen", {"workers": {"replicas": 2}})
    bench.wait("it has gone", lambda: bench.get("kitchen") is None)
    bench.wait("its children have gone", lambda: not _children_of(bench, "kitchen"))

    asked = _asked(_ours(requests, bench))
    granted = _granted(bench.namespace)
    assert asked - granted == set(), "asked for and not granted"
    assert granted - asked == _NOT_SEEN.keys(), "granted and never asked for"


def _ours(requests: RequestLog, bench: Bench) -> list[Request]:
    """This test's operator's alone: the others' of the session are in the log, too."""
    return requests.all(
        lambda r: r.user == "operator" and bool(r.resource) and r.namespace == bench.namespace
    )


def _make_drop_folder(bench: Bench) -> None:
    store = open_store(f"{bench.bucket}/")
    store.put("in/night.jsonl", store.get("prompts.jsonl"))
    template = bench.manifest(suspend=True)["spec"]
    template["input"].pop("prompts")
    template.pop("output")
    body = {
        "apiVersion": "/".join(GROUP),
        "kind": "DropFolder",
        "metadata": {"name": "inbox", "namespace": bench.namespace},
        "spec": {
            "uri": f"{bench.bucket}/in/",
            "outputBase": f"{bench.bucket}/answers/",
            "pollSeconds": 1,
            "settleSeconds": 0,
            "template": {"spec": template},
        },
    }
    custom = kubernetes.client.CustomObjectsApi(bench.client)
    custom.create_namespaced_custom_object(*GROUP, bench.namespace, "dropfolders", body)


def _children_of(bench: Bench, name: str) -> list[Any]:
    return [c for c in bench.children() if c["metadata"]["labels"]["neva-batch.dev/job"] == name]
