"""What the chart's CronJobs run is understood by the command, and its exit codes by the CronJob."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes
import pytest
from typer.testing import CliRunner

from controller.cli import app
from controller.nightly.cli import EXIT_INCONCLUSIVE, EXIT_TRY_AGAIN, EXIT_WORSE
from tests.chart.rendering import only, render
from tests.kube.fixtures import Cluster

JOB = {
    "model": {"uri": "s3://models/m/"},
    "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
    "output": {"uri": "s3://eval/nightly/"},
}
NIGHT: dict[str, Any] = {
    "name": "kitchen",
    "namespace": "eval",
    "timeZone": "Europe/Berlin",
    "labels": {"team": "k"},
    "gate": {"maxScoreDrop": 0.3},
    "job": JOB,
}


def test_the_command_makes_the_job_that_the_values_describe(
    emulated_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render({"nightly": [NIGHT]})
    path = tmp_path / "job.yaml"
    path.write_text(only(manifests, "ConfigMap", "-kitchen")["data"]["job.yaml"])
    pod = only(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["neva", "nightly"]
    arguments = [str(path) if a == "/etc/neva/nightly/job.yaml" else a for a in container["args"]]
    assert "0.3" in arguments and "Europe/Berlin" in arguments
    location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(location, str(emulated_cluster.kubeconfig))
    monkeypatch.setenv("KUBECONFIG", str(emulated_cluster.kubeconfig))
    with emulated_cluster.client() as client:
        kubernetes.client.CoreV1Api(client).create_namespace({"metadata": {"name": "eval"}})
        result = CliRunner().invoke(app, ["nightly", *arguments, "--no-wait"])
        assert result.exit_code == 0, result.output
        custom = kubernetes.client.CustomObjectsApi(client)
        [job] = custom.list_namespaced_custom_object(
            "neva-batch.dev", "v1alpha1", "eval", "videonevajobs"
        )["items"]
    assert job["metadata"]["name"].startswith("kitchen-20")
    assert job["metadata"]["labels"]["team"] == "k"
    assert job["metadata"]["labels"]["neva-batch.dev/series"] == "kitchen"


def test_what_no_retry_helps_ends_the_run_and_what_may_pass_does_not() -> None:
    spec = only(render({"nightly": [NIGHT]}), "CronJob")["spec"]["jobTemplate"]["spec"]
    [codes] = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"][1:]]
    assert codes["values"] == [EXIT_WORSE, EXIT_INCONCLUSIVE]
    assert EXIT_TRY_AGAIN not in codes["values"]
    assert spec["backoffLimit"] > 0


def test_a_run_knows_its_own_name() -> None:
    pod = only(render({"nightly": [NIGHT]}), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    [run] = [e["valueFrom"] for e in container["env"] if e["name"] == "NEVA_NIGHTLY_RUN"]
    label = "metadata.labels['batch.kubernetes.io/job-name']"
    assert run == {"fieldRef": {"fieldPath": label}}
