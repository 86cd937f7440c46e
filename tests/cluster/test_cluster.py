"""The whole of it on a real cluster whose nodes run pods: `make test-cluster`.

In order, each on what the one before left. Whatever fails says so with `kubectl describe`, events
and the pods' logs. Images: NEVA_CONTROLLER_IMAGE and NEVA_WORKER_IMAGE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Config, HelmError

from neva.store import open_store
from tests.cluster.lab import CRDS, KIND_EXAMPLES, Lab, drop_folder, example_job

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(2400),
    pytest.mark.usefixtures("release", "s3"),
]

NUM_ROWS = 72
WORKER_PODS = "neva-batch.dev/role=worker"


def lines(uri: str, file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in open_store(uri).get(file).splitlines()]


def check_answers(lab: Lab, uri: str, num_rows: int) -> None:
    ids = [row["question_id"] for row in lines(uri, "outputs.jsonl")]
    if len(ids) != num_rows or len(set(ids)) != num_rows or lines(uri, "errors.jsonl"):
        lab.fail(f"{uri}: {len(ids)} answers to {len(set(ids))} questions, not {num_rows}")


def test_the_servers_schema_refuses_a_wrong_job(lab: Lab) -> None:
    wrong = example_job("wrong", workers={"replicas": 1, "gpusPerWorker": 3})
    code, printed = lab.run("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump(wrong))
    assert code != 0 and "gpusPerWorker" in printed, printed


@pytest.mark.parametrize(
    ("verb", "what", "answer"),
    [
        ("create", ["jobs.batch"], "yes"),
        ("patch", ["videonevajobs.neva-batch.dev", "--subresource=status"], "yes"),
        ("create", ["events"], "yes"),
        ("update", ["leases.coordination.k8s.io/neva-batch-controller"], "yes"),
        ("get", ["secrets"], "no"),
        ("create", ["pods"], "no"),
    ],
)
def test_the_controller_may_do_its_work_and_no_more(
    lab: Lab, verb: str, what: list[str], answer: str
) -> None:
    account = f"system:serviceaccount:{lab.namespace}:neva-batch-controller"
    _, printed = lab.run("auth", "can-i", verb, *what, f"--as={account}")
    assert answer in printed.split(), printed  # a no may be followed by its reason


def test_helms_own_test_passes(lab: Lab, helm: Config, release: str) -> None:
    try:
        helm.test(release, timeout=300)
    except HelmError as error:
        lab.fail(f"helm test: {error}")


def test_the_example_is_answered_judged_and_reported(lab: Lab) -> None:
    lab.kubectl("apply", "-f", str(KIND_EXAMPLES / "job.yaml"))
    status = lab.wait_phase("demo", "Succeeded")
    check_answers(lab, "s3://demo/runs/demo/", NUM_ROWS)
    assert status["rows"] == {"total": NUM_ROWS, "done": NUM_ROWS, "failed": 0}, status
    assert float(status["score"]) > 0, status
    assert open_store("s3://demo/runs/demo/").head("report.html") is not None


def test_kubectl_shows_how_far_it_is(lab: Lab) -> None:
    heads, row = lab.kubectl("get", "vnj", "demo").splitlines()
    assert heads.split()[:4] == ["NAME", "PHASE", "DONE", "TOTAL"], heads
    assert {"FAILED", "RATE", "ETA", "SCORE", "AGE"} <= set(heads.split()), heads
    assert row.split()[:4] == ["demo", "Succeeded", str(NUM_ROWS), str(NUM_ROWS)], row


def test_every_transition_is_an_event(lab: Lab) -> None:
    events = lab.items("events")
    told = [
        event["message"].split(":")[0]
        for event in events
        if event["involvedObject"]["kind"] == "VideoNevaJob"
        and event["involvedObject"]["name"] == "demo"
    ]
    missing = {"Preparing", "Running", "Finishing", "Succeeded"} - set(told)
    if missing:
        lab.fail(f"no event of {missing}, only {told}")


def test_a_suspended_job_frees_its_pods_and_goes_on_where_it_was(lab: Lab) -> None:
    shards, workers = {"maxRows": 6}, {"replicas": 1, "gpusPerWorker": 0, "shmSize": "256Mi"}
    lab.apply(example_job("pausing", judge=None, shards=shards, workers=workers))
    # Workers take seconds to load their model: nothing is answered when the first one appears.
    lab.wait_phase("pausing", "Queued", "Running")
    lab.kubectl("patch", "vnj", "pausing", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    lab.wait_phase("pausing", "Suspended", timeout_s=180)
    selector = f"{WORKER_PODS},neva-batch.dev/job=pausing"
    lab.wait("no worker pod is left", lambda: not lab.items("pods", selector), 180)
    lab.kubectl("patch", "vnj", "pausing", "--type=merge", "-p", '{"spec":{"suspend":false}}')
    lab.wait_phase("pausing", "Succeeded")
    check_answers(lab, "s3://demo/runs/pausing/", NUM_ROWS)


def test_a_night_by_hand_twice_is_one_job(lab: Lab) -> None:
    [cron] = lab.items("cronjobs")
    before = {job["metadata"]["name"] for job in lab.items("videonevajobs")}
    for name in ("by-hand-1", "by-hand-2"):
        lab.kubectl("create", "job", f"--from=cronjob/{cron['metadata']['name']}", name)
        wait = ("wait", f"job/{name}", "--for=condition=Complete", "--timeout=900s")
        lab.kubectl(*wait, timeout_s=960)
    nights = {job["metadata"]["name"] for job in lab.items("videonevajobs")} - before
    assert len(nights) in (1, 2), nights  # two around midnight
    first = min(nights)
    compared = lab.condition("videonevajobs", first, "Compared")
    assert compared.get("reason") == "NoBaseline", compared


def test_the_next_night_is_compared_with_the_last(lab: Lab, tmp_path: Path) -> None:
    job = example_job("demo", output={"uri": "s3://demo/runs/nightly/"})
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    day = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%d")
    command = ["nightly", "--job", str(path), "--series", "demo", "--date", day]
    done = subprocess.run(
        [sys.executable, "-m", "controller", *command, "--max-drop", "0.5", "-n", lab.namespace],
        env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    if done.returncode != 0:
        lab.fail(f"neva nightly ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    compared = lab.condition("videonevajobs", f"demo-{day.replace('-', '')}", "Compared")
    assert compared.get("reason") == "Same", compared


def test_dropped_files_become_jobs(lab: Lab) -> None:
    inbox, source = open_store("s3://demo/inbox/"), open_store("s3://demo/input/")
    prompts = b"".join(source.get("prompts.jsonl").splitlines(keepends=True)[:6])
    video = json.loads(prompts.splitlines()[0])["video"]
    lab.apply(drop_folder())
    inbox.put("a b.jsonl", prompts)
    inbox.put("bad.jsonl", b"no json\n")
    inbox.put(f"clips/{video}", source.get(f"videos/{video}"))
    inbox.put("clips/prompts.jsonl", prompts.splitlines(keepends=True)[0])
    inbox.put("clips/_READY", b"")

    def moved() -> set[str] | None:
        found = {item.key.rpartition("/")[2] for item in inbox.list("done/")}
        return found if {"a b.jsonl", "_READY"} <= found else None

    lab.wait("the good drops are moved", moved, 900)
    told = lab.wait("errors beside the bad one", lambda: inbox.get_or_none("bad.errors.json"), 300)
    assert json.loads(told)["errors"][0]["reason"] == "InvalidJson", told
    assert inbox.head("bad.jsonl") is not None
    jobs = lab.items("videonevajobs", "neva-batch.dev/drop-folder=inbox")
    assert len(jobs) == 3, [job["metadata"]["name"] for job in jobs]
    for job in jobs:
        key = job["metadata"]["annotations"]["neva-batch.dev/drop-key"]
        if key != "bad.jsonl":
            check_answers(lab, job["spec"]["output"]["uri"], 6 if key == "a b.jsonl" else 1)
    ready = lab.condition("dropfolders", "inbox", "Ready")
    assert ready.get("status") == "True", ready


def test_uninstalling_leaves_jobs_and_their_kind(lab: Lab, helm: Config, release: str) -> None:
    before = {job["metadata"]["name"] for job in lab.items("videonevajobs")}
    helm.uninstall(release, timeout=300)
    assert {job["metadata"]["name"] for job in lab.items("videonevajobs")} == before
    for crd in CRDS:
        lab.kubectl("get", "crd", crd)
    lab.wait("the controller is gone", lambda: _only_the_demo(lab), 180)


def _only_the_demo(lab: Lab) -> bool:
    return [d["metadata"]["name"] for d in lab.items("deployments")] == ["neva-demo"]
