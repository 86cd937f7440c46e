"""Helm's own engine against an emulated API server: install, upgrade, uninstall."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helm_python import Config
from kubernetes import client, config

from tests.chart.rendering import chart
from tests.chart.value_sets import DROP
from tests.kube.emulator import Emulator, running_emulator

pytestmark = pytest.mark.e2e
_SECRET = "neva-neva-batch-neva-valkey"


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with running_emulator() as running:
        yield running


@pytest.fixture(scope="module")
def api(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> client.ApiClient:
    path = emulator.write_kubeconfig(tmp_path_factory.mktemp("api") / "kubeconfig", "test")
    api_client = config.new_client_from_config(str(path))
    client.CoreV1Api(api_client).create_namespace({"metadata": {"name": "neva"}})
    return api_client


@pytest.fixture
def helm(emulator: Emulator, api: client.ApiClient, tmp_path: Path) -> Iterator[Config]:
    kubeconfig = emulator.write_kubeconfig(tmp_path / "kubeconfig", "helm", "neva")
    # Releases in memory: Helm writes them as protobuf, which the emulator does not speak.
    with Config(kubeconfig_path=kubeconfig, namespace="neva", storage_driver="memory") as found:
        yield found


def _custom(api: client.ApiClient, plural: str) -> list[dict[str, Any]]:
    custom = client.CustomObjectsApi(api)
    found: list[dict[str, Any]] = custom.list_cluster_custom_object(
        "neva-batch.dev", "v1alpha1", plural
    )["items"]
    return found


def test_a_release_comes_changes_and_goes_but_leaves_jobs_behind(
    helm: Config, api: client.ApiClient
) -> None:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    values = {"dropFolders": [{"name": "inbox", "spec": DROP}]}

    assert helm.install(chart(), "neva", values, timeout=60)["status"] == "deployed"
    password = core.read_namespaced_secret(_SECRET, "neva").data["password"]
    assert _custom(api, "dropfolders") == []  # the kind is new

    helm.upgrade(chart(), "neva", {**values, "controller": {"replicas": 2}}, timeout=60)
    assert core.read_namespaced_secret(_SECRET, "neva").data["password"] == password
    deployment = apps.read_namespaced_deployment("neva-neva-batch-controller", "neva")
    assert deployment.spec.replicas == 2
    (folder,) = _custom(api, "dropfolders")
    assert folder["metadata"]["name"] == "inbox"
    assert folder["spec"]["pollSeconds"] == 30  # the resource definition's default

    _create_job(api)
    helm.uninstall("neva", timeout=60)
    assert apps.list_namespaced_deployment("neva").items == []
    assert [job["metadata"]["name"] for job in _custom(api, "videonevajobs")] == ["kitchen"]


def _create_job(api: client.ApiClient) -> None:
    job = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen"},
        "spec": {
            "model": {"uri": "s3://models/m/"},
            "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
            "output": {"uri": "s3://eval/out/"},
        },
    }
    client.CustomObjectsApi(api).create_namespaced_custom_object(
        "neva-batch.dev", "v1alpha1", "neva", "videonevajobs", job
    )
