from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helm_python import Config
from kubernetes import client, config

from tests.chart.rendering import Manifest, identity, of_kind, only, render
from tests.chart.value_sets import VALUE_SETS
from tests.kube.emulator import Emulator, running_emulator

# What the API server refuses to change, as paths of keys.
_IMMUTABLE = {
    "Deployment": [("spec", "selector")],
    "StatefulSet": [
        ("spec", "selector"),
        ("spec", "serviceName"),
        ("spec", "podManagementPolicy"),
        ("spec", "volumeClaimTemplates"),
    ],
    "RoleBinding": [("roleRef",)],
    "ClusterRoleBinding": [("roleRef",)],
    "Service": [("spec", "clusterIP")],
    "Secret": [("type",), ("immutable",)],
    "PodDisruptionBudget": [],
}


def _frozen(manifests: list[Manifest]) -> dict[Any, list[str]]:
    """The immutable part of every object."""

    def at(manifest: Manifest, path: tuple[str, ...]) -> Any:
        value: Any = manifest
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    return {
        identity(manifest): [
            json.dumps(at(manifest, path), sort_keys=True)
            for path in _IMMUTABLE.get(manifest["kind"], [])
        ]
        for manifest in manifests
    }


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_an_upgrade_changes_nothing_that_is_immutable(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _frozen(render(values, is_upgrade=False))
    changed = {
        **values,
        "commonLabels": {"new": "label"},
        "image": {"controller": {"tag": "9.9.9"}, "worker": {"tag": "9.9.9"}},
        "metrics": {"serviceMonitor": {"enabled": True}},
    }
    after = _frozen(render(changed))
    shared = before.keys() & after.keys()
    assert {kind for kind, _, _ in shared} >= {"Deployment", "ConfigMap", "Service"}
    assert {key: before[key] for key in shared} == {key: after[key] for key in shared}


def test_the_chart_versions_labels_are_in_no_selector() -> None:
    for manifest in render(VALUE_SETS["given namespaces"]):
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            labels = manifest["spec"]["selector"]["matchLabels"]
            assert not {"helm.sh/chart", "app.kubernetes.io/version"} & labels.keys()


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture
def cluster(emulator: Emulator, tmp_path: Path) -> Iterator[Config]:
    kubeconfig = emulator.write_kubeconfig(tmp_path / "kubeconfig", "helm", "neva")
    with Config(kubeconfig_path=kubeconfig, namespace="neva") as found:
        yield found


def test_a_generated_password_survives_upgrades(
    emulator: Emulator, cluster: Config, tmp_path: Path
) -> None:
    values = {"jobNamespaces": ["team-a"]}
    first = of_kind(render(values, cluster=cluster, is_upgrade=False), "Secret")
    passwords = {secret["stringData"]["password"] for secret in first}
    (password,) = passwords  # one, in the release's and in the jobs' namespace
    assert len(password) >= 32

    kubeconfig = emulator.write_kubeconfig(tmp_path / "own", "test")
    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    core.create_namespace({"metadata": {"name": "neva"}})
    (own,) = [secret for secret in first if secret["metadata"]["namespace"] == "neva"]
    core.create_namespaced_secret("neva", own)

    again = of_kind(render(values, cluster=cluster), "Secret")
    assert [secret["stringData"] for secret in again] == [s["stringData"] for s in first]
    without_cluster = of_kind(render(values), "Secret")
    assert without_cluster[0]["stringData"]["password"] != password


def test_the_url_leads_to_the_bundled_valkey_with_the_password() -> None:
    manifests = render(name="one", namespace="two")
    secret = only(manifests, "Secret")["stringData"]
    service = only(manifests, "Service", "valkey")["metadata"]
    host = f"{service['name']}.{service['namespace']}.svc"
    assert secret["url"] == f"redis://:{secret['password']}@{host}:6379/0"


def test_a_secret_of_ones_own_is_taken_and_none_is_made() -> None:
    manifests = render({"valkey": {"auth": {"existingSecret": "broker"}}})
    assert not of_kind(manifests, "Secret")
    for kind, key in (("StatefulSet", "password"), ("Deployment", "url")):
        (container,) = only(manifests, kind)["spec"]["template"]["spec"]["containers"]
        references = [
            variable["valueFrom"]["secretKeyRef"]
            for variable in container["env"]
            if "valueFrom" in variable
        ]
        assert references == [{"name": "broker", "key": key}]
