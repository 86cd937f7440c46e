"""The live view in the chart: off by default, reads only, never open by accident."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from helm_python import HelmError
from typer.main import get_command

from controller.ui.cli import ui_app
from tests.chart.rendering import REPOSITORY, Manifest, notes, of_kind, only, render

_NAME = "neva-neva-batch-ui"
_KNOWN = [
    f"--allow-host={host}"
    for host in (
        "localhost",
        "127.0.0.1",
        _NAME,
        f"{_NAME}.neva",
        f"{_NAME}.neva.svc",
        f"{_NAME}.neva.svc.cluster.local",
    )
]


def _of_ui(values: dict[str, Any]) -> list[Manifest]:
    labels = [(m, m["metadata"].get("labels", {})) for m in render(values)]
    return [m for m, found in labels if found.get("app.kubernetes.io/component") == "ui"]


def _arguments(values: dict[str, Any]) -> list[str]:
    pod = only(render({"ui": {"enabled": True}, **values}), "Deployment", "-ui")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["neva", "ui"]
    return [argument for argument in container["args"] if "port" not in argument]


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert _of_ui({}) == []
    assert "live view" not in notes()
    assert _of_ui({"ui": {"ingress": {"enabled": True}}}) == [], "half-written, and not in use"


def test_it_shows_the_namespaces_that_the_controller_watches_or_those_it_is_told() -> None:
    assert _arguments({}) == ["--host=::", "--all-namespaces", *_KNOWN]
    watched: dict[str, Any] = {"controller": {"namespaces": ["a", "b"]}}
    assert _arguments(watched)[1:] == ["--namespace=a", "--namespace=b", *_KNOWN]
    told = {**watched, "ui": {"enabled": True, "namespaces": ["b"]}}
    assert _arguments(told)[1:] == ["--namespace=b", *_KNOWN]


@pytest.mark.parametrize("more", [["neva.example.com", "localhost"], ["*"]])
def test_it_is_asked_by_its_own_names_and_those_that_are_added(more: list[str]) -> None:
    found = _arguments({"ui": {"enabled": True, "allowedHosts": more}})[2:]
    assert found == [*_KNOWN, f"--allow-host={more[0]}"]


def test_every_argument_is_one_of_the_command() -> None:
    names = {name for one in get_command(ui_app).params for name in one.opts}
    assert {argument.partition("=")[0] for argument in _arguments({})} <= names


@pytest.mark.parametrize(
    ("namespaces", "kind"), [([], "ClusterRole"), (["a"], "Role")], ids=["cluster", "namespace"]
)
def test_it_may_list_jobs_and_nothing_else(namespaces: list[str], kind: str) -> None:
    manifests = _of_ui({"ui": {"enabled": True, "namespaces": namespaces}})
    role, binding = only(manifests, kind), only(manifests, f"{kind}Binding")
    assert role["rules"] == [
        {"apiGroups": ["neva-batch.dev"], "resources": ["videonevajobs"], "verbs": ["list"]}
    ]
    assert role["metadata"].get("namespace") == (namespaces[0] if namespaces else None)
    subjects = [{"kind": "ServiceAccount", "name": _NAME, "namespace": "neva"}]
    assert (binding["roleRef"]["name"], binding["subjects"]) == (
        role["metadata"]["name"],
        subjects,
    )


def test_it_reads_outputs_as_the_controller_does_and_knows_no_broker() -> None:
    storage = {"existingSecret": "s3", "endpointUrl": "https://s3.example.com"}
    deployment = only(_of_ui({"ui": {"enabled": True}, "storage": storage}), "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "s3"}}]
    names = [variable["name"] for variable in container["env"]]
    assert names == ["HOME", "AWS_ENDPOINT_URL"]


def test_an_ingress_leads_to_it_by_its_name_alone() -> None:
    ingress = {"enabled": True, "host": "neva.example.com", "annotations": {"a/login": "yes"}}
    values = {"ui": {"enabled": True, "ingress": ingress}}
    made = only(_of_ui(values), "Ingress")
    assert made["metadata"]["annotations"] == {"a/login": "yes"}
    (rule,) = made["spec"]["rules"]
    assert rule["host"] == "neva.example.com"
    (path,) = rule["http"]["paths"]
    service = only(_of_ui(values), "Service")
    assert path["backend"]["service"]["name"] == service["metadata"]["name"]
    assert _arguments(values)[-1] == "--allow-host=neva.example.com"
    # The kubelet asks as localhost: it would be refused under a pod's address.
    pod = only(_of_ui(values), "Deployment")["spec"]["template"]["spec"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        headers = pod["containers"][0][probe]["httpGet"]["httpHeaders"]
        assert headers == [{"name": "Host", "value": "localhost"}]
    assert "http://neva.example.com/" in notes(values)


def test_other_pods_reach_it_only_when_they_are_named() -> None:
    values: dict[str, Any] = {"ui": {"enabled": True}, "networkPolicy": {"enabled": True}}
    closed = only(render(values), "NetworkPolicy", "-ui")["spec"]
    assert "Ingress" in closed["policyTypes"]
    assert "ingress" not in closed
    source = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    values["networkPolicy"]["uiFrom"] = source
    opened = only(render(values), "NetworkPolicy", "-ui")["spec"]["ingress"]
    assert opened == [{"ports": [{"protocol": "TCP", "port": 8321}], "from": source}]


def test_an_ingress_that_the_network_policy_would_cut_off_is_refused() -> None:
    ingress = {"enabled": True, "host": "neva.example.com", "annotations": {"a/login": "yes"}}
    ui = {"enabled": True, "ingress": ingress}
    with pytest.raises(HelmError, match=r"ui\.ingress\.enabled.*networkPolicy\.uiFrom"):
        render({"ui": ui, "networkPolicy": {"enabled": True}})
    source = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    assert render({"ui": ui, "networkPolicy": {"enabled": True, "uiFrom": source}})
    assert render({"ui": {**ui, "enabled": False}, "networkPolicy": {"enabled": True}})


def test_the_guide_leads_from_the_gateway_through_the_login_to_the_page() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "live-view.md").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(text.partition("```")[0]) for text in page.split("```yaml\n")[1:]]
    values, proxy, route = blocks
    manifests = render(values, name="neva-batch")
    service = only(manifests, "Service", "-ui")
    assert proxy["extraArgs"]["upstream"] == f"http://{service['metadata']['name']}"
    assert service["spec"]["ports"][0]["port"] == 80
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": proxy["config"]["existingSecret"], "port": 80}]
    assert values["ui"]["allowedHosts"] == route["spec"]["hostnames"]
    (way_in,) = only(manifests, "NetworkPolicy", "-ui")["spec"]["ingress"]
    assert way_in["from"] == values["networkPolicy"]["uiFrom"]
    assert not of_kind(manifests, "Ingress")


def test_nothing_of_it_is_open_to_the_outside_by_itself() -> None:
    kinds = {m["kind"] for m in _of_ui({"ui": {"enabled": True}})}
    assert kinds == {
        "Deployment",
        "Service",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
    }
    assert not of_kind(render({"ui": {"enabled": True}}), "Ingress")
