"""`neva nightly` over HTTP, on an emulated cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml
from typer.testing import CliRunner

from controller.cli import app
from controller.nightly.run import Night, Patience
from controller.nightly.watching import JobWatch
from controller.operator.api import ApiError, ClientTransport, KubeApi
from neva.conditions import ConditionReason as Why
from tests.kube.emulator import Fault
from tests.kube.fixtures import Cluster

GROUP = ("neva-batch.dev", "v1alpha1")
JOBS = "videonevajobs"
SPEC: dict[str, Any] = {
    "model": {"uri": "s3://models/m/"},
    "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
    "output": {"uri": "s3://eval/nightly/"},
}


class Bench:
    """An emulated cluster, on which jobs end when the test says so."""

    def __init__(self, cluster: Cluster, client: kubernetes.client.ApiClient, job: Path) -> None:
        self.cluster = cluster
        self.client = client
        self.job_file = job
        self.custom = kubernetes.client.CustomObjectsApi(client)

    def run(self, *options: str, date: str = "2026-11-22") -> int:
        command = ["nightly", "--job", str(self.job_file), "--series", "kitchen"]
        result = CliRunner().invoke(app, [*command, "--date", date, *options])
        print(result.output)
        return result.exit_code

    def jobs(self) -> dict[str, Any]:
        found = self.custom.list_namespaced_custom_object(*GROUP, "default", JOBS)
        return {job["metadata"]["name"]: job for job in found["items"]}

    def end(self, name: str, score: str | None = None, phase: str = "Succeeded") -> None:
        job = self.jobs()[name]
        job["status"] = {**(job.get("status") or {}), "phase": phase}
        if score is not None:
            job["status"]["score"] = score
        self.custom.replace_namespaced_custom_object_status(*GROUP, "default", JOBS, name, job)

    def night(self, date: str, score: str | None, *options: str, phase: str = "Succeeded") -> int:
        """One whole night: the job is made, ends so, and is waited for."""
        assert self.run("--no-wait", date=date) == 0
        self.end(f"kitchen-{date.replace('-', '')}", score, phase)
        return self.run(*options, date=date)

    def compared(self, name: str) -> tuple[str, str, str]:
        conditions = self.jobs()[name]["status"]["conditions"]
        [found] = [c for c in conditions if c["type"] == "Compared"]
        return found["status"], found["reason"], found["message"]


@pytest.fixture
def bench(
    emulated_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    kubeconfig = str(emulated_cluster.kubeconfig_for("nightly"))
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    # The client reads the variable when it is imported.
    location = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(location, kubeconfig)
    body = {
        "apiVersion": "/".join(GROUP),
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen"},
        "spec": SPEC,
    }
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(body), encoding="utf-8")
    with emulated_cluster.client() as client:
        yield Bench(emulated_cluster, client, job)


def test_the_same_date_twice_is_one_job(bench: Bench) -> None:
    assert bench.run("--no-wait") == 0
    uid = bench.jobs()["kitchen-20261122"]["metadata"]["uid"]
    assert bench.run("--no-wait") == 0
    assert [job["metadata"]["uid"] for job in bench.jobs().values()] == [uid]
    assert bench.run("--no-wait", date="2026-11-23") == 0
    assert sorted(bench.jobs()) == ["kitchen-20261122", "kitchen-20261123"]


def test_nights_are_compared_with_the_last_good_one(bench: Bench) -> None:
    assert bench.night("2026-11-20", "87.0", "--max-drop", "0.5") == 0
    assert bench.compared("kitchen-20261120")[:2] == ("Unknown", Why.NO_BASELINE)
    assert bench.night("2026-11-21", None, phase="Failed") == 2
    assert bench.night("2026-11-22", "88.0", "--max-drop", "0.5") == 0
    status, reason, message = bench.compared("kitchen-20261122")
    assert (status, reason) == ("True", Why.BETTER)
    assert message.startswith("score 88.0, 1.0 more than 87.0 of kitchen-20261120")
    assert bench.night("2026-11-23", "87.4", "--max-drop", "0.5") == 1
    assert bench.compared("kitchen-20261123")[:2] == ("True", Why.WORSE)
    assert bench.night("2026-11-24", "87.0", "--max-drop", "0.5") == 0
    assert bench.compared("kitchen-20261124")[:2] == ("True", Why.SAME)


def test_a_night_without_a_score_cannot_pass_a_gate(bench: Bench) -> None:
    assert bench.night("2026-11-22", None, "--max-drop", "0.5") == 2
    assert bench.compared("kitchen-20261122")[:2] == ("Unknown", Why.NO_SCORE)
    assert bench.night("2026-11-23", None) == 0, "none was asked for"


def test_the_condition_is_the_nights_own_and_written_once(bench: Bench) -> None:
    bench.night("2026-11-22", "87.0")
    assert bench.cluster.emulator is not None
    log = bench.cluster.emulator.requests
    log.clear()
    assert bench.run() == 0
    assert not [r for r in log.all() if r.verb == "patch"]
    job = bench.jobs()["kitchen-20261122"]
    KubeApi(ClientTransport(bench.client)).write_status(
        job, {"phase": "Succeeded", "score": "87.0"}
    )
    assert bench.compared("kitchen-20261122")[:2] == ("Unknown", Why.NO_BASELINE)


def test_it_waits_until_the_job_ends_whatever_the_api_server_does(bench: Bench) -> None:
    """Requests fail, watches break, and the job ends in the middle of it."""
    bench.run("--no-wait")
    assert bench.cluster.emulator is not None
    log = bench.cluster.emulator.requests
    log.clear()
    watching = threading.Event()
    log.break_requests(Fault(lambda r: r.user == "nightly" and r.verb == "get", status=503))
    log.break_requests(Fault(lambda r: r.user == "nightly" and r.verb == "watch", status=None))
    log.break_requests(Fault(lambda r: r.user == "nightly" and r.verb == "patch", status=500))
    job = bench.jobs()["kitchen-20261122"]
    kubeconfig = str(bench.cluster.kubeconfig_for("nightly"))
    with kubernetes.config.new_client_from_config(kubeconfig) as client:
        night = Night(
            KubeApi(ClientTransport(client)),
            JobWatch(client, timeout_s=1),
            Patience(sleep=lambda _: watching.set()),
        )
        ended: list[Any] = []
        thread = threading.Thread(target=lambda: ended.append(night.wait(job)))
        thread.start()
        assert watching.wait(30), "a request failed and was repeated"
        bench.end("kitchen-20261122", "80.0")
        thread.join(30)
        assert ended[0]["status"]["phase"] == "Succeeded"
        verdict = night.judge(ended[0], "kitchen", None, 0.0)
    assert verdict is not None and str(verdict.reason) == Why.NO_BASELINE


def test_a_deleted_job_is_not_waited_for(bench: Bench) -> None:
    bench.run("--no-wait")
    job = bench.jobs()["kitchen-20261122"]
    bench.custom.delete_namespaced_custom_object(*GROUP, "default", JOBS, "kitchen-20261122")
    bench.run("--no-wait")
    watcher = JobWatch(bench.client, timeout_s=1)
    night = Night(KubeApi(ClientTransport(bench.client)), watcher, Patience())
    with pytest.raises(Exception, match="was deleted"):
        night.wait(job)


def test_patience_ends_and_does_not_cover_what_is_wrong() -> None:
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    def fail(status: int) -> Any:
        raise ApiError(status, "no")

    patience = Patience(clock=lambda: now_s, sleep=sleep, limit_s=100.0)
    with pytest.raises(ApiError):
        patience.call(lambda: fail(503))
    assert 100 < now_s < 200
    before_s = now_s
    with pytest.raises(ApiError):
        patience.call(lambda: fail(403))
    assert now_s == before_s


@pytest.mark.parametrize(
    "options", [["--max-drop", "much"], ["--max-drop", "-1"], ["--max-drop", "nan"]]
)
def test_wrong_options_are_told(bench: Bench, options: list[str]) -> None:
    assert bench.run(*options) == 2
    assert bench.jobs() == {}


def test_a_wrong_date_or_job_file_is_told(bench: Bench) -> None:
    assert bench.run(date="tomorrow") == 2
    bench.job_file.write_text("apiVersion: v1\n", encoding="utf-8")
    assert bench.run() == 2
    assert bench.jobs() == {}


def test_a_retry_after_midnight_goes_on_with_its_night(bench: Bench) -> None:
    command = ["nightly", "--job", str(bench.job_file), "--series", "kitchen", "--no-wait"]
    environment = {"NEVA_NIGHTLY_RUN": "cron-1"}
    first = [*command, "--time-zone", "Pacific/Kiritimati"]
    assert CliRunner().invoke(app, first, env=environment).exit_code == 0
    later = [*command, "--time-zone", "Pacific/Pago_Pago"]  # always another date
    assert CliRunner().invoke(app, later, env=environment).exit_code == 0
    assert len(bench.jobs()) == 1
    assert CliRunner().invoke(app, later, env={"NEVA_NIGHTLY_RUN": "cron-2"}).exit_code == 0
    assert len(bench.jobs()) == 2
