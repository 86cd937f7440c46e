"""What the chart's CronJobs run is understood by the command, and its exit codes by the CronJob."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from typer.testing import CliRunner

from controller.cli import app
from controller.nightly.cli import EXIT_INCONCLUSIVE, EXIT_TRY_AGAIN, EXIT_WORSE
from tests.chart.rendering import only, render
from tests.kube.fixtures import KUBECTL, Cluster
from tests.kube.waiting import eventually

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


def test_a_night_by_hand_is_run_by_its_pod_and_twice_is_one_job(
    emulated_cluster: Cluster, tmp_path: Path
) -> None:
    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        command = [KUBECTL, "--kubeconfig", str(emulated_cluster.kubeconfig), "-n", "eval"]
        done = subprocess.run(
            [*command, *arguments], input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def phase_of_run(name: str, phase: str) -> bool:
        status = json.loads(kubectl("get", "job", name, "-o", "json"))["status"]
        return phase in {c["type"] for c in status.get("conditions", []) if c["status"] == "True"}

    manifests = render({"nightly": [NIGHT]})
    cron = only(manifests, "CronJob")
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "eval"}}
    for manifest in (namespace, cron, only(manifests, "ConfigMap", "-kitchen")):
        kubectl("create", "-f", "-", stdin=yaml.safe_dump(manifest))
    environment = {"KUBECONFIG": str(emulated_cluster.kubeconfig)}
    (tmp_path / "kubelet").mkdir()
    kubelet = emulated_cluster.kubelet(tmp_path / "kubelet", environment=environment)
    kubelet.start()
    try:
        for name in ("by-hand-1", "by-hand-2"):
            # kubectl itself would send this as protobuf, which the emulator does not speak.
            source = f"--from=cronjob/{cron['metadata']['name']}"
            made = kubectl("create", "job", source, name, "--dry-run=client", "-o", "json")
            kubectl("create", "-f", "-", stdin=made)
        eventually(lambda: kubectl("get", "vnj", "-o", "name"), "the night's job", 60)
        [job] = kubectl("get", "vnj", "-o", "name").split()
        status = {"status": {"phase": "Succeeded", "score": "87.0"}}
        kubectl("patch", job, "--subresource=status", "--type=merge", "-p", json.dumps(status))
        for name in ("by-hand-1", "by-hand-2"):
            eventually(lambda name=name: phase_of_run(name, "Complete"), f"{name}'s end", 60)
        assert kubectl("get", "vnj", "-o", "name").split() == [job]
    finally:
        kubelet.stop()
