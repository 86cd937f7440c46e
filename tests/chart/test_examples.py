"""The examples through the models that check jobs everywhere."""

from __future__ import annotations

from typing import Any

import kubernetes_validate.utils
import pytest
import yaml

from neva.drop_folder import DropFolder
from neva.spec import VideoNevaJob
from tests.chart.pod_security import violations
from tests.chart.rendering import EXAMPLES, REPOSITORY, of_kind, only, pod_templates, render

_JOBS = sorted(EXAMPLES.glob("*/job.yaml"))
_VALUES = sorted(EXAMPLES.glob("*/values.yaml"))
_DEMO = EXAMPLES / "kind" / "demo.yaml"


def _load(path: Any) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", _JOBS, ids=lambda path: path.parent.name)
def test_a_job_is_valid(path: Any) -> None:
    job = VideoNevaJob.model_validate(_load(path))
    ranks = job.spec.model.tensor_parallel_size * job.spec.model.pipeline_parallel_size
    assert job.spec.workers.gpus_per_worker in (0, ranks)


def test_there_is_a_job_for_one_gpu_node_and_one_for_kind() -> None:
    jobs = {path.parent.name: VideoNevaJob.model_validate(_load(path)) for path in _JOBS}
    node = jobs["gpu-node"].spec
    assert (node.model.tensor_parallel_size, node.workers.gpus_per_worker) == (4, 4)
    assert jobs["kind"].spec.workers.gpus_per_worker == 0
    assert jobs["kind"].spec.model.uri.startswith("s3://demo/")


def test_every_nightly_job_and_every_drop_folder_is_valid() -> None:
    nights = [night for path in _VALUES for night in _load(path).get("nightly", [])]
    assert nights
    for night in nights:
        job = {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": night["name"]},
            "spec": night["job"],
        }
        assert VideoNevaJob.model_validate(job).spec.judge is not None  # else nothing to compare
    folders = sorted(EXAMPLES.glob("*/dropfolder.yaml"))
    assert folders
    for path in folders:
        DropFolder.model_validate(_load(path))


def test_the_demos_servers_are_restricted_valid_and_where_the_job_looks_for_them() -> None:
    manifests = list(yaml.safe_load_all(_DEMO.read_text(encoding="utf-8")))
    for manifest in manifests:
        for version in ("1.31", "1.36"):
            kubernetes_validate.utils.validate(manifest, version, strict=True)
    ((_, pod),) = pod_templates(manifests)
    assert violations(pod["spec"]) == []

    service = only(manifests, "Service")
    ports = {port["name"]: port["port"] for port in service["spec"]["ports"]}
    host = service["metadata"]["name"]
    values = _load(EXAMPLES / "kind" / "values.yaml")
    assert values["storage"]["endpointUrl"] == f"http://{host}:{ports['s3']}"
    assert values["storage"]["existingSecret"] == only(manifests, "Secret")["metadata"]["name"]
    job = _load(EXAMPLES / "kind" / "job.yaml")["spec"]
    for judge in (job["judge"], values["nightly"][0]["job"]["judge"]):
        assert judge["endpoint"] == f"http://{host}:{ports['judge']}/v1"


def test_kind_needs_no_image_but_ours() -> None:
    values = _load(EXAMPLES / "kind" / "values.yaml")
    manifests = [*render(values), *yaml.safe_load_all(_DEMO.read_text(encoding="utf-8"))]
    images = {
        container["image"]
        for _, pod in pod_templates(manifests)
        for container in pod["spec"]["containers"]
    }
    assert images == {"neva-batch-controller:0.1.0", "neva-batch-worker:0.1.0"}
    assert not of_kind(manifests, "PersistentVolumeClaim")


def test_the_demos_command_is_one_that_exists() -> None:
    pod = only(list(yaml.safe_load_all(_DEMO.read_text(encoding="utf-8"))), "Deployment")
    (container,) = pod["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "demo.cluster"]
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    assert f"COPY demo/ {container['workingDir']}/demo/" in dockerfile


def test_commands_in_comments_name_files_that_exist() -> None:
    named = [
        word
        for path in EXAMPLES.rglob("*.yaml")
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("#   ")
        for word in line.split()
        if word.startswith(("conf/", "charts/"))
    ]
    assert len(named) >= 5
    assert [word for word in named if not (REPOSITORY / word).exists()] == []
