"""What `make test-cluster` uses, as far as an emulated cluster can tell."""

from __future__ import annotations

from pathlib import Path

import kubernetes
import pytest
import yaml
from helm_python import Config

from neva.drop_folder import DropFolder
from neva.job_file import parse_job
from tests.chart.rendering import render
from tests.cluster import lab as module
from tests.cluster.conftest import adopt_crds
from tests.cluster.lab import (
    CHART,
    CRDS,
    RELEASE,
    Lab,
    demo_manifests,
    drop_folder,
    example_job,
    image_values,
    release_values,
)
from tests.kube.fixtures import Cluster

pytestmark = pytest.mark.e2e


@pytest.fixture
def lab(emulated_cluster: Cluster, tmp_path: Path) -> Lab:
    lab = Lab(emulated_cluster.kubeconfig, "neva-lab", tmp_path)
    lab.make_namespace()
    return lab


@pytest.mark.parametrize(
    ("reference", "repository", "tag", "digest"),
    [
        ("neva:1", "neva", "1", ""),
        ("localhost:5000/a/neva:1", "localhost:5000/a/neva", "1", ""),
        ("r.io/neva@sha256:00", "r.io/neva", "", "sha256:00"),
        ("localhost:5000/neva", "localhost:5000/neva", "latest", ""),
    ],
)
def test_references_are_taken_apart(reference: str, repository: str, tag: str, digest: str) -> None:
    assert image_values(reference) == {"repository": repository, "tag": tag, "digest": digest}


def test_the_images_under_test_are_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTROLLER_IMAGE", "r.io/c:7")
    monkeypatch.setattr(module, "WORKER_IMAGE", "r.io/w:7")
    assert "image: r.io/w:7\n" in demo_manifests()
    assert "neva-batch-worker" not in demo_manifests()
    with_images = yaml.safe_dump(release_values("ns"))
    assert "neva-batch-controller" not in with_images
    assert "r.io/c" in with_images and "r.io/w" in with_images


@pytest.mark.parametrize(
    "reference",
    ["neva:latest", "neva", "localhost:5000/a/neva:1-x", "r.io:443/a/neva@sha256:" + 64 * "0"],
)
def test_the_chart_takes_every_reference(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONTROLLER_IMAGE", reference)
    monkeypatch.setattr(module, "WORKER_IMAGE", reference)
    objects = render(release_values("ns"), namespace="ns")
    [controller] = [o for o in objects if o["kind"] == "Deployment"]
    [container] = controller["spec"]["template"]["spec"]["containers"]
    assert container["image"] == (f"{reference}:latest" if reference == "neva" else reference)


def test_the_jobs_and_the_folder_are_valid() -> None:
    parse_job(example_job("pausing", judge=None), "pausing")
    folder = drop_folder()
    DropFolder.model_validate(folder)


def test_everything_applies_and_the_release_comes_and_goes(
    lab: Lab, emulated_cluster: Cluster
) -> None:
    lab.kubectl("apply", "-f", "-", stdin=demo_manifests())
    adopt_crds(lab)
    kubeconfig = emulated_cluster.kubeconfig
    # Releases in memory: Helm writes them as protobuf, which the emulator does not speak.
    with Config(
        kubeconfig_path=kubeconfig, namespace=lab.namespace, storage_driver="memory"
    ) as helm:
        helm.install(CHART, RELEASE, release_values(lab.namespace), timeout=60)
        names = lab.kubectl("get", "deployments,statefulsets", "-o", "name").split()
        assert sorted(names) == [
            "deployment.apps/neva-batch-controller",
            "deployment.apps/neva-demo",
            "statefulset.apps/neva-batch-valkey",
        ]
        [cron] = lab.items("cronjobs")
        assert cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        lab.apply(example_job("pausing", judge=None), drop_folder())
        assert lab.items("dropfolders")[0]["metadata"]["name"] == "inbox"
        helm.uninstall(RELEASE, timeout=60)
    assert [job["metadata"]["name"] for job in lab.items("videonevajobs")] == ["pausing"]
    for crd in CRDS:
        lab.kubectl("get", "crd", crd)


def test_waiting_in_vain_tells_everything(
    lab: Lab, emulated_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.01)
    lab.apply(example_job("pausing", judge=None))
    with emulated_cluster.client() as client:
        kubernetes.client.CoreV1Api(client).create_namespaced_pod(
            "neva-lab",
            {
                "metadata": {"name": "a-pod"},
                "spec": {"containers": [{"name": "main", "image": "x"}]},
            },
        )
        custom = kubernetes.client.CustomObjectsApi(client)
        job = lab.get("videonevajobs", "pausing")
        assert job is not None
        job["status"] = {"phase": "Failed"}
        custom.replace_namespaced_custom_object_status(
            "neva-batch.dev", "v1alpha1", "neva-lab", "videonevajobs", "pausing", job
        )
    with pytest.raises(AssertionError) as never:
        lab.wait("the moon turns blue", lambda: False, 0.0)
    for word in ("the moon turns blue", "a-pod", "pausing", "kubectl logs pod/a-pod"):
        assert word in str(never.value)
    with pytest.raises(AssertionError, match="pausing is Failed, not Succeeded"):
        lab.wait_phase("pausing", "Succeeded", timeout_s=60)
    with pytest.raises(AssertionError, match="ended with 1"):
        lab.kubectl("get", "vnj", "no-such-job")
