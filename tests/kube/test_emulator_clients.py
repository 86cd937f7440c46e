"""The clients that matter, against the emulator: kubectl, the official library, kopf."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import kubernetes
import pytest
import yaml

from controller.crd import crd_file, video_neva_job_crd
from tests.controller.crd.specs import JOB, changed
from tests.kube.fixtures import Cluster
from tests.kube.http import MERGE, VNJS, Http, batch_job
from tests.kube.waiting import eventually

KUBECTL = Path(sys.executable).with_name("kubectl")


class Kubectl:
    """The real kubectl on one cluster."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "KUBECONFIG": str(cluster.kubeconfig),
        }
        self._folder = folder

    def run(self, *arguments: str) -> tuple[int, str]:
        """(exit code, everything printed)."""
        done = subprocess.run(
            [KUBECTL, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def __call__(self, *arguments: str) -> str:
        code, printed = self.run(*arguments)
        assert code == 0, printed
        return printed

    def file(self, obj: object) -> str:
        path = self._folder / "manifest.yaml"
        path.write_text(yaml.safe_dump(obj), encoding="utf-8")
        return str(path)


@pytest.fixture
def kubectl(emulated_cluster: Cluster, tmp_path: Path) -> Kubectl:
    return Kubectl(emulated_cluster, tmp_path)


def test_kubectl_applies_shows_and_deletes_a_job(kubectl: Kubectl, http: Http) -> None:
    assert "created" in kubectl("apply", "-f", kubectl.file(JOB))
    status = {"phase": "Running", "rows": {"done": 3, "total": 9}, "rowsPerSecond": "1.5"}
    http.good("PATCH", f"{VNJS}/kitchen/status", {"status": status}, content_type=MERGE)
    heads, cells = kubectl("get", "vnj").splitlines()
    assert " ".join(heads.split()) == "NAME PHASE DONE TOTAL FAILED RATE ETA SCORE AGE"
    assert cells.split()[:4] == ["kitchen", "Running", "3", "9"]
    assert "kitchen" in kubectl("get", "neva")  # the category
    more = changed(JOB, "spec.workers.replicas", 5)
    assert "configured" in kubectl("apply", "-f", kubectl.file(more))
    assert "unchanged" in kubectl("apply", "-f", kubectl.file(more))
    assert "Running" in kubectl("describe", "vnj", "kitchen")
    kubectl("delete", "vnj", "kitchen", "--timeout=30s")
    assert "NotFound" in kubectl.run("get", "vnj", "kitchen")[1]


def test_kubectl_applies_on_the_servers_side_with_conflicts(kubectl: Kubectl) -> None:
    manifest = kubectl.file(JOB)
    kubectl("apply", "--server-side", "--field-manager=one", "-f", manifest)
    other = kubectl.file(changed(JOB, "spec.workers.replicas", 5))
    arguments = ("apply", "--server-side", "--field-manager=two", "-f", other)
    code, printed = kubectl.run(*arguments)
    assert code != 0 and 'conflict with "one"' in printed
    assert "serverside-applied" in kubectl(*arguments, "--force-conflicts")


def test_kubectl_dry_run_tells_what_is_wrong(kubectl: Kubectl) -> None:
    bad = kubectl.file(changed(JOB, "spec.workers.gpusPerWorker", 3))
    code, printed = kubectl.run("apply", "--dry-run=server", "-f", bad)
    assert code != 0
    assert "must be model.tensorParallelSize x model.pipelineParallelSize" in printed
    misspelt = kubectl.file(changed(JOB, "spec.inference.topk", 3))
    code, printed = kubectl.run("apply", "--dry-run=server", "-f", misspelt)
    assert code != 0 and 'unknown field "spec.inference.topk"' in printed


def test_kubectl_explains_the_fields(kubectl: Kubectl) -> None:
    assert "Keep the k most probable tokens" in kubectl("explain", "vnj.spec.inference.top_k")


def test_kubectl_installs_the_committed_definition_again(kubectl: Kubectl) -> None:
    path = str(crd_file(video_neva_job_crd()))
    printed = kubectl("apply", "--server-side", "--force-conflicts", "-f", path)
    assert "serverside-applied" in printed


def test_kubectl_knows_jobs_events_and_namespaces(kubectl: Kubectl) -> None:
    team = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}
    kubectl("apply", "-f", kubectl.file(team))
    kubectl("apply", "-n", "team", "-f", kubectl.file(batch_job("a")))
    found = json.loads(kubectl("get", "jobs,pods,events", "-n", "team", "-o", "json"))
    assert [item["metadata"]["name"] for item in found["items"]] == ["a"]
    kubectl("patch", "job", "a", "-n", "team", "-p", '{"spec": {"parallelism": 0}}')
    assert "Parallelism:" in kubectl("describe", "job", "a", "-n", "team")
    kubectl("delete", "namespace", "team", "--timeout=30s")


def test_the_official_library_reads_writes_and_watches(emulated_cluster: Cluster) -> None:
    with emulated_cluster.client() as client:
        jobs = kubernetes.client.BatchV1Api(client)
        jobs.create_namespaced_job("default", batch_job("a", parallelism=2))
        (job,) = jobs.list_namespaced_job("default").items
        assert job.spec.parallelism == 2
        leases = kubernetes.client.CoordinationV1Api(client)
        lease = {"metadata": {"name": "leader"}, "spec": {"holderIdentity": "me"}}
        created = leases.create_namespaced_lease("default", lease)
        created.spec.holder_identity = "you"
        leases.replace_namespaced_lease("leader", "default", created)
        with pytest.raises(kubernetes.client.ApiException) as caught:
            leases.replace_namespaced_lease("leader", "default", created)
        assert caught.value.status == 409
        watch = kubernetes.watch.Watch()
        (event,) = watch.stream(jobs.list_namespaced_job, "default", timeout_seconds=1)
        assert (event["type"], event["object"].metadata.name) == ("ADDED", "a")


OPERATOR = """
    import kopf

    @kopf.on.startup()
    def configure(settings, **_):
        settings.peering.standalone = True
        settings.persistence.finalizer = "example.com/hold"

    @kopf.on.create("neva-batch.dev", "v1alpha1", "videonevajobs")
    def created(patch, **_):
        patch.status["phase"] = "Running"

    @kopf.on.update("neva-batch.dev", "v1alpha1", "videonevajobs", field="spec.suspend")
    def suspended(patch, new, body, **_):
        patch.status["phase"] = "Suspended"
        kopf.event(body, type="Normal", reason="Suspended", message="as asked")

    @kopf.on.delete("neva-batch.dev", "v1alpha1", "videonevajobs")
    def deleted(**_):
        pass
"""


def test_a_kopf_operator_lives_through_a_jobs_life(
    emulated_cluster: Cluster, http: Http, tmp_path: Path
) -> None:
    script = tmp_path / "operator_under_test.py"
    script.write_text(textwrap.dedent(OPERATOR), encoding="utf-8")
    kubeconfig = emulated_cluster.kubeconfig_for("operator")
    log = tmp_path / "operator.log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [sys.executable, "-m", "kopf", "run", "-n", "default", script],
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as operator,
    ):
        try:
            http.create(VNJS, JOB)

            def phase() -> str:
                return str(http.get(f"{VNJS}/kitchen").get("status", {}).get("phase"))

            eventually(lambda: phase() == "Running", "the handler of creations")
            assert http.get(f"{VNJS}/kitchen")["metadata"]["finalizers"] == ["example.com/hold"]
            suspend = {"spec": {"suspend": True}}
            http.good("PATCH", f"{VNJS}/kitchen", suspend, content_type=MERGE)
            eventually(lambda: phase() == "Suspended", "the handler of changes")
            events = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name=kitchen"
            eventually(lambda: http.get(events)["items"], "the event")
            http.good("DELETE", f"{VNJS}/kitchen")
            eventually(lambda: http.call("GET", f"{VNJS}/kitchen")[0] == 404, "its end")
        finally:
            operator.terminate()
    assert "Traceback" not in log.read_text(encoding="utf-8")
    assert emulated_cluster.emulator is not None
    assert emulated_cluster.emulator.requests.all(lambda r: r.user == "operator")
