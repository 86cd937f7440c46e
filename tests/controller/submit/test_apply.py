"""`neva submit` on an emulated cluster."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.submit.apply import apply_job
from neva.errors import ConfigError
from neva.kube import ApiError, Json
from tests.controller.submit.test_body import SPEC, job_file
from tests.kube.fixtures import Cluster

GROUP = ("neva-batch.dev", "v1alpha1")


@pytest.fixture
def custom(emulated_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The custom resources of the cluster that a home's .kube/config names."""
    (tmp_path / ".kube").mkdir()
    shutil.copy(emulated_cluster.kubeconfig_for("submit"), tmp_path / ".kube" / "config")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with emulated_cluster.client() as client:
        yield kubernetes.client.CustomObjectsApi(client)


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["submit", *arguments])


def test_a_job_is_created_left_alone_and_changed(custom: Any, tmp_path: Path) -> None:
    first = submit(job_file(tmp_path))
    assert first.exit_code == 0, first.output
    assert "videonevajobs/kitchen created in namespace default" in first.stderr
    assert "kitchen unchanged in" in submit(job_file(tmp_path)).stderr
    spec = {**SPEC, "workers": {"replicas": 3}}
    changed = submit(job_file(tmp_path, spec), "-o", "yaml")
    assert "kitchen configured in" in changed.stderr
    assert yaml.safe_load(changed.stdout)["spec"]["workers"]["replicas"] == 3
    found = custom.get_namespaced_custom_object(*GROUP, "default", "videonevajobs", "kitchen")
    assert found["spec"]["workers"]["replicas"] == 3


def test_a_namespace_that_is_not_there_is_named_with_the_way_out(
    custom: Any, tmp_path: Path
) -> None:
    refused = submit(job_file(tmp_path), "-n", "nowhere")
    assert refused.exit_code == 2
    assert "create it (kubectl create namespace nowhere), or name another by -n" in refused.stderr


def test_what_others_have_set_is_taken_over_on_demand_only(custom: Any, tmp_path: Path) -> None:
    submit(job_file(tmp_path))
    theirs = {
        "apiVersion": "/".join(GROUP),
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen"},
        "spec": {**SPEC, "suspend": True},
    }
    path = f"/apis/{'/'.join(GROUP)}/namespaces/default/videonevajobs/kitchen"
    custom.api_client.call_api(
        *custom.api_client.param_serialize(
            "PATCH",
            path,
            query_params=[("fieldManager", "somebody"), ("force", "true")],
            header_params={"Content-Type": "application/apply-patch+yaml"},
            body=theirs,
        )
    ).read()
    ours = job_file(tmp_path, {**SPEC, "suspend": False})
    refused = submit(ours)
    assert refused.exit_code == 2, refused.output
    assert "--force-conflicts takes the fields over" in refused.stderr
    assert submit(ours, "--force-conflicts").exit_code == 0


class Refusing:
    """A cluster that has no such job, and takes none."""

    def __init__(self, status: int) -> None:
        self._status = status

    def find(self, namespace: str, name: str) -> Json | None:
        return None

    def apply(self, body: Json, *, force: bool) -> Json:
        raise ApiError(self._status, "not now.")


BODY = {"metadata": {"name": "kitchen", "namespace": "eval"}}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "not now; are the kubeconfig's credentials still good?"),
        (403, "not now; a role is missing, or -n names the wrong namespace"),
        (404, "not now; is the chart installed there"),
        (409, "not now; --force-conflicts takes the fields over"),
        (422, "videonevajobs/kitchen in eval: not now."),
    ],
)
def test_a_refusal_comes_with_its_way_out(status: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_job(Refusing(status), BODY, force=False)
    assert words in caught.value.message


@pytest.mark.parametrize("status", [0, 429, 503])
def test_a_cluster_that_can_not_answer_now_is_no_refusal(status: int) -> None:
    with pytest.raises(ApiError) as caught:
        apply_job(Refusing(status), BODY, force=False)
    assert caught.value.retryable
