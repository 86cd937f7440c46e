"""The commands for people on jobs of a cluster: an API server over HTTP, a kubeconfig."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import pytest
import yaml

from controller.lines import put_lines
from controller.summary import write_summary
from neva.ledger import layout
from neva.ledger.control import Control, Order
from neva.store import open_store
from tests.controller.cluster.conftest import User, condition
from tests.controller.runs import SUMMARY, MadeRun
from tests.kube.emulator import Fault

ROWS = {"total": 72, "done": 12, "failed": 1}
RUNNING = {
    "phase": "Running",
    "rows": ROWS,
    "shards": {"total": 12, "done": 2},
    "rowsPerSecond": "3.2",
    "eta": "19s",
    "conditions": [condition("Running", "Answering", "2 of 2 workers run")],
}


def test_a_job_is_shown_as_its_status_tells(user: User) -> None:
    user.make("kitchen")
    assert user.neva("status", "vnj/kitchen").output.startswith("default/kitchen: Pending\n")
    user.tell("kitchen", **RUNNING)
    shown = user.neva("status", "kitchen", "-n", "default").output
    assert shown.startswith("default/kitchen: Running, 12 of 72 rows done, 1 failed\n")
    assert "why      Answering: 2 of 2 workers run" in shown
    assert "rate     3.2 rows/s, at most 19s left" in shown
    assert "output   s3://eval/out/" in shown
    found = json.loads(user.neva("status", "vnj/kitchen", "-o", "json").output)
    assert (found["phase"], found["rows"]) == ("Running", ROWS)
    assert found["conditions"][0]["reason"] == "Answering"


def test_jobs_are_listed_in_kubectls_columns(user: User) -> None:
    assert user.neva("status").output == "no jobs in default\n"
    user.make("kitchen")
    user.make("garden")
    user.tell("kitchen", **RUNNING)
    head, *rows = user.neva("status").output.splitlines()
    assert head.split() == [
        "NAME",
        "PHASE",
        "DONE",
        "TOTAL",
        "FAILED",
        "RATE",
        "ETA",
        "SCORE",
        "AGE",
    ]
    kitchen = next(row for row in rows if row.startswith("kitchen"))
    assert kitchen.split()[:7] == ["kitchen", "Running", "12", "72", "1", "3.2", "19s"]
    everywhere = user.neva("status", "-A").output.splitlines()
    assert everywhere[0].split()[:2] == ["NAMESPACE", "NAME"]
    listed = yaml.safe_load(user.neva("status", "-o", "yaml").output)
    assert {job["name"]: job["phase"] for job in listed["jobs"]} == {
        "kitchen": "Running",
        "garden": "Pending",
    }


def test_watching_a_job_ends_with_it_and_bears_a_server_that_is_away(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.make("kitchen")
    user.tell("kitchen", **RUNNING)
    ended = {
        **RUNNING,
        "phase": "Succeeded",
        "rows": {"total": 72, "done": 72, "failed": 1},
        "score": "87.5",
    }
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 1:
            user.emulator.requests.break_requests(Fault(lambda _: True, status=503))
        elif len(pauses) == 3:
            user.tell("kitchen", **ended)

    monkeypatch.setattr("controller.status.shown.sleep", pause)
    shown = user.neva("status", "vnj/kitchen", "-w", "--interval", "0.1").output
    assert pauses == [0.1] * 3
    assert shown.splitlines()[0].startswith("default/kitchen: Running, 12 of 72")
    assert "default/kitchen: Succeeded, 72 of 72 rows done" in shown
    assert "score    87.5" in shown
    assert "`neva retry vnj/kitchen -n default`" in shown


def test_a_job_is_suspended_and_resumed_by_its_spec(user: User) -> None:
    user.make("kitchen")
    assert "is suspended" in user.neva("suspend", "vnj/kitchen").output
    [job] = user.cluster.jobs(everywhere=False)
    assert job["spec"]["suspend"] is True
    assert "suspended already" in user.neva("suspend", "vnj/kitchen").output
    assert "may go on" in user.neva("resume", "vnj/kitchen").output
    [job] = user.cluster.jobs(everywhere=False)
    assert job["spec"]["suspend"] is False
    told = json.loads(user.neva("suspend", "vnj/kitchen", "-o", "json").stdout)
    assert (told["order"], told["target"], told["changed"]) == ("suspend", "vnj/kitchen", True)
    user.tell("kitchen", phase="Succeeded")
    assert "is over (Succeeded)" in user.neva("suspend", "vnj/kitchen", code=2).output


def test_resuming_lifts_the_ledgers_order_where_the_spec_says_nothing(
    user: User, s3_uri: str
) -> None:
    run = MadeRun(open_store(s3_uri))
    user.make("kitchen", s3_uri)
    user.neva("suspend", s3_uri)
    assert Control(run.ledger.store).look().order is Order.SUSPEND
    user.neva("resume", "kitchen", "-n", "default")
    assert Control(run.ledger.store).look().order is None


def test_a_job_is_cancelled_in_its_ledger(user: User, s3_uri: str) -> None:
    run = MadeRun(open_store(s3_uri))
    run.commit(0)
    user.make("kitchen", s3_uri)
    told = user.neva("cancel", "vnj/kitchen", "--no-wait", "-o", "json")
    assert "is cancelled" in told.stderr and "3 of 10 rows are answered" in told.stderr
    assert json.loads(told.stdout)["rows"] == {"total": 10, "done": 4, "failed": 1}
    assert Control(run.ledger.store).look().order is Order.CANCEL


def finished_run(uri: str) -> MadeRun:
    run = MadeRun(open_store(uri), name="kitchen")
    for shard in range(3):
        run.commit(shard, failed="MediaUnreadable" if shard == 1 else None)
    write_summary(run.ledger.store, {**SUMMARY, "answered": 8, "failed": 2})
    put_lines(run.ledger.store, layout.OUTPUTS, [])
    run.ledger.store.put(layout.SUCCESS, b"")
    return run


def test_the_retry_of_a_job_is_a_job_beside_it_with_its_own_pods(user: User, s3_uri: str) -> None:
    finished_run(s3_uri)
    template = {"spec": {"hostNetwork": True}}
    user.make("kitchen", s3_uri, workers={"replicas": 3, "podTemplate": template})
    job = yaml.safe_load(user.neva("retry", "vnj/kitchen", "--dry-run").output)
    assert job["spec"]["retryOf"] == s3_uri
    assert len(user.cluster.jobs(everywhere=False)) == 1, "nothing was made"
    told = user.neva("retry", "vnj/kitchen", "-o", "json")
    assert "retry 1 asks 2 failed rows" in told.stderr
    assert json.loads(told.stdout)["output"] == f"{s3_uri}retries/1/"
    jobs = {body["metadata"]["name"]: body for body in user.cluster.jobs(everywhere=False)}
    made = jobs["made-retry-1"]["spec"]
    assert made["output"]["uri"] == f"{s3_uri}retries/1/"
    assert made["workers"]["replicas"] == 3
    assert made["workers"]["podTemplate"] == template
    assert "there is a job made-retry-1" in user.neva("retry", "vnj/kitchen", code=2).output


def test_report_and_comparison_find_a_jobs_output(user: User, tmp_path: Path, s3_uri: str) -> None:
    finished_run(s3_uri)
    user.make("kitchen", s3_uri)
    assert user.neva("report", "vnj/kitchen").output.strip() == f"{s3_uri}report.html"
    told = user.neva("compare", "kitchen", str(tmp_path), "-n", "default", code=2).output
    assert f"{s3_uri}: this run was not judged" in told


def test_a_job_that_is_not_there_is_named_with_its_namespace(user: User) -> None:
    told = user.neva("status", "vnj/kitchen", code=1).output
    assert (
        "error (ObjectNotFound): there is no VideoNevaJob kitchen in the namespace default" in told
    )
    assert "no VideoNevaJob" in user.neva("suspend", "vnj/kitchen", code=2).output


def test_without_a_cluster_the_way_to_a_run_on_this_machine_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: User
) -> None:
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    told = user.neva("status", code=1).output
    assert "no access to a cluster: no kubeconfig is here (KUBECONFIG, ~/.kube/config)" in told
    assert "neva status OUT" in told


def test_the_home_folders_kubeconfig_is_found_as_by_kubectl(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, user: User
) -> None:
    (tmp_path / ".kube").mkdir()
    user.emulator.write_kubeconfig(tmp_path / ".kube" / "config", "me", "default")
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user.neva("status").output == "no jobs in default\n"
    assert orjson.loads(user.neva("status", "-o", "json").output) == {"jobs": []}
