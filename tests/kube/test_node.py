"""What the test kubelet does on a real cluster alone, and its client there."""

from __future__ import annotations

import base64
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from tests.kube.fixtures import Cluster, flat_kubeconfig, install_crds
from tests.kube.http import pod
from tests.kube.kubelet import Kubelet, Node
from tests.kube.kubelet.client import Client, pod_path
from tests.kube.waiting import eventually

GPU = "nvidia.com/gpu"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def client(emulated_cluster: Cluster) -> Iterator[Client]:
    client = Client(emulated_cluster.kubeconfig)
    yield client
    client.close()


def test_a_node_comes_tells_its_capacity_and_goes(client: Client) -> None:
    node = Node()
    node.register(client)
    found = client.get("/api/v1/nodes/test-node")
    assert found is not None
    assert found["status"]["allocatable"][GPU] == "64"
    assert [c["type"] for c in found["status"]["conditions"]] == ["Ready"]
    assert not found["spec"].get("taints")
    node.capacity = {GPU: 0}
    node.beat(client)
    found = client.get("/api/v1/nodes/test-node")
    assert found is not None and found["status"]["allocatable"][GPU] == "0"
    assert found["status"]["allocatable"]["cpu"] == "64"
    node.unregister(client)
    assert client.get("/api/v1/nodes/test-node") is None


def test_a_pod_is_bound_run_and_reported_without_playing_controllers(
    emulated_cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    kubelet = Kubelet(emulated_cluster.kubeconfig, tmp_path / "kubelet", plays_controllers=False)
    client.create(PODS, pod("one", "sh", "-c", "exit 3"))
    kubelet.start()
    try:

        def ended() -> dict[str, Any] | None:
            found = client.get(pod_path("default", "one"))
            assert found is not None
            return found if (found.get("status") or {}).get("phase") == "Failed" else None

        found = eventually(ended, "the pod's end")
        assert found["spec"]["nodeName"] == "test-node"
        assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3
    finally:
        kubelet.stop()


def test_a_lost_report_is_made_again(
    emulated_cluster: Cluster, client: Client, tmp_path: Path
) -> None:
    kubelet = Kubelet(emulated_cluster.kubeconfig, tmp_path / "kubelet", plays_controllers=False)
    client.create(PODS, pod("one", "true"))
    kubelet.start()
    try:

        def ended() -> bool:
            found = client.get(pod_path("default", "one"))
            return found is not None and found["status"].get("phase") == "Succeeded"

        eventually(ended, "the pod's end")
        # As if the report had never arrived.
        client.patch(pod_path("default", "one", "status"), {"status": {"phase": "Running"}})
        eventually(ended, "the pod's end, again")
    finally:
        kubelet.stop()


def test_what_the_server_calls_invalid_is_told(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert (
            client.create(
                "/apis/neva-batch.dev/v1alpha1/namespaces/default/videonevajobs",
                {
                    "apiVersion": "neva-batch.dev/v1alpha1",
                    "kind": "VideoNevaJob",
                    "metadata": {"name": "a"},
                    "spec": {},
                },
            )
            is None
        )
    assert "POST /apis/neva-batch.dev" in caplog.text and "Required" in caplog.text


def test_files_of_a_kubeconfig_lie_beside_it(emulated_cluster: Cluster, tmp_path: Path) -> None:
    config = yaml.safe_load(emulated_cluster.kubeconfig.read_text(encoding="utf-8"))
    cluster = config["clusters"][0]["cluster"]
    data = cluster.pop("certificate-authority-data", None)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(base64.b64decode(data) if data else b"")
    cluster["certificate-authority"] = "ca.crt"
    (folder / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    client = Client(folder / "config")
    assert client._session.verify == str(folder / "ca.crt")
    client.close()
    shutil.rmtree(folder)


def test_a_kubeconfig_of_several_files_becomes_one(
    emulated_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = yaml.safe_load(emulated_cluster.kubeconfig.read_text(encoding="utf-8"))
    users = {"apiVersion": "v1", "kind": "Config", "users": config.pop("users")}
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for name, content in (("one", config), ("two", users)):
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setenv("KUBECONFIG", f"{folder / 'one'}:{folder / 'two'}")
    client = Client(flat_kubeconfig(tmp_path))
    assert client.get("/api/v1/namespaces/default") is not None
    client.close()


def test_definitions_are_waited_for_until_they_are_served(
    emulated_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = kubernetes.client.CustomObjectsApi
    answers = [kubernetes.client.ApiException(status=404)]
    discover = custom.get_api_resources

    def late(self: Any, *arguments: Any) -> Any:
        if answers:
            raise answers.pop()
        return discover(self, *arguments)

    monkeypatch.setattr(custom, "get_api_resources", late)
    with emulated_cluster.client() as admin:
        install_crds(admin)
    assert answers == []
