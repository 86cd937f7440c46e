"""`neva doctor` on broken set-ups made of real parts: each is named with its way out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from typer.testing import CliRunner

import worker.doctor
from controller.cli import app
from controller.operator.names import PLURAL
from neva import kube
from neva.findings import Finding, Verdict
from neva.settings import settings
from tests.fakes.judge_endpoint import send_json, serving
from tests.kube.emulator import running_emulator
from tests.kube.fixtures import Cluster, running_cluster
from tests.support.jobs import DEMO_MODEL
from tests.support.s3_proxy import Fault, s3_proxy
from tests.support.sentinel import answers, free_ports, start_server, wait_until
from tests.support.tls import make_certificate, tls_before


class Doctor:
    """A healthy set-up to break, and the command."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        (folder / "videos").mkdir()
        (folder / "videos" / "a.mp4").write_bytes(b"")
        (folder / "prompts.jsonl").write_text("{}\n")
        self.spec: dict[str, Any] = {
            "model": {"uri": str(DEMO_MODEL), "precision": "fp32"},
            "input": {"prompts": "prompts.jsonl", "mediaBasePath": "videos/"},
            "output": {"uri": "out/"},
        }
        for name in ("KUBECONFIG", "NEVA_REDIS_URL", "API_TOKEN", "NEVA_JOB"):
            monkeypatch.delenv(name, raising=False)
        self.set("HOME", str(folder))
        self.set("NEVA_CACHE_DIR", str(folder / "cache"))
        # Importing decoders in processes of their own is for the one test of them.
        monkeypatch.setattr(worker.doctor, "_DECODERS", ())

    def set(self, name: str, value: str) -> None:
        self._monkeypatch.setenv(name, value)
        settings.cache_clear()

    def ask(self, *options: str) -> dict[str, Any]:
        job = {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": "kitchen"},
            "spec": self.spec,
        }
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(job))
        arguments = ["doctor", str(path), "-o", "json", *options]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code in (0, 1), result.output
        told = json.loads(result.stdout)
        assert told["ok"] == (result.exit_code == 0)
        return {finding["part"]: finding for finding in told["findings"]}

    def problem(self, part: str) -> str:
        """What is said of a part, and that it is a problem."""
        finding = self.ask()[part]
        assert finding["verdict"] == "problem", finding
        return f"{finding['found']}; {finding['advice']}"


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> Iterator[Doctor]:
    yield Doctor(tmp_path, monkeypatch)
    settings.cache_clear()


@contextmanager
def broker(folder: Path, config: str = "", password: str | None = None) -> Iterator[int]:
    [port] = free_ports("server").values()
    process = start_server(folder / "server", port, f'save ""\n{config}')
    try:
        with redis.Redis(port=port, password=password) as client:
            wait_until(lambda: answers(client))
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_set_up_that_works_has_no_problem(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    doctor.set("HOME", str(doctor.folder))
    doctor.set("NEVA_CACHE_DIR", str(doctor.folder / "cache"))
    found = doctor.ask()
    verdicts = {part: finding["verdict"] for part, finding in found.items()}
    assert "problem" not in verdicts.values(), found
    assert verdicts["judge"] == verdicts["cluster"] == "skipped"
    assert "embedded" in found["broker"]["found"] and "Valkey" in found["broker"]["found"]
    assert "av " in found["decoders"]["found"]
    assert "every tensor" in found["checkpoint"]["found"]
    assert list((doctor.folder / "out").iterdir()) == [], "nothing is left behind"


# Broken environments


def test_a_variable_that_is_none(doctor: Doctor) -> None:
    doctor.set("NEVA_DEVICE", "gpu")
    assert "NEVA_DEVICE: Input should be 'auto', 'cpu' or 'cuda'" in doctor.problem("settings")


def test_an_endpoint_without_its_scheme(doctor: Doctor) -> None:
    doctor.set("AWS_ENDPOINT_URL", "localhost:9000")
    doctor.spec["output"]["uri"] = "s3://bucket/out/"
    assert "Invalid endpoint: localhost:9000" in doctor.problem("output")


@pytest.mark.parametrize("words", ["only words\n", "a: [b\n"])
def test_a_kubeconfig_that_is_none(doctor: Doctor, words: str) -> None:
    path = doctor.folder / "kubeconfig"
    path.write_text(words)
    doctor.set("KUBECONFIG", str(path))
    told = doctor.problem("cluster")
    assert f"no access to a cluster: {path} is no kubeconfig" in told
    doctor.set("KUBECONFIG", "/nowhere/config")
    assert "/nowhere/config does not exist" in doctor.problem("cluster")


# Broken brokers


def test_a_wrong_password(doctor: Doctor) -> None:
    with broker(doctor.folder, "requirepass secret\n", "secret") as port:
        doctor.set("NEVA_REDIS_URL", f"redis://:wr0ng@127.0.0.1:{port}/0")
        told = doctor.problem("broker")
    assert "refuses user or password" in told and "redis://USER:PASSWORD@HOST" in told
    assert "wr0ng" not in told


def test_no_broker_there(doctor: Doctor) -> None:
    [port] = free_ports("nobody").values()
    doctor.set("NEVA_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    told = doctor.problem("broker")
    assert "Connection refused" in told and "correct host and port" in told


def test_a_broker_that_evicts(doctor: Doctor) -> None:
    config = "maxmemory 100mb\nmaxmemory-policy allkeys-lru\n"
    with broker(doctor.folder, config) as port:
        doctor.set("NEVA_REDIS_URL", f"redis://127.0.0.1:{port}/0")
        told = doctor.problem("broker")
    assert "allkeys-lru" in told and "set maxmemory-policy noeviction" in told


def test_tls_of_an_unknown_authority_and_a_master_that_no_sentinel_knows(doctor: Doctor) -> None:
    with ExitStack() as stack:
        port = stack.enter_context(broker(doctor.folder))
        certificate = make_certificate(doctor.folder)
        tls = stack.enter_context(tls_before(port, certificate))
        doctor.set("NEVA_REDIS_URL", f"rediss://127.0.0.1:{tls}/0")
        told = doctor.problem("broker")
        assert "CERTIFICATE_VERIFY_FAILED" in told and "ssl_ca_certs=" in told
        doctor.set("NEVA_REDIS_URL", f"redis+sentinel://127.0.0.1:{port}/neva-queue")
        told = doctor.problem("broker")
        assert "no Sentinel names the master neva-queue" in told


# Broken stores


def test_a_store_without_conditional_put(doctor: Doctor, s3_bucket: str, s3_endpoint: str) -> None:
    with s3_proxy(s3_endpoint) as proxy:
        doctor.set("AWS_ENDPOINT_URL", proxy.url)
        doctor.spec["output"] = {"uri": f"s3://{s3_bucket}/out/"}
        proxy.faults = [Fault("PUT", drop_header="If-None-Match", times=99)]
        told = doctor.problem("output")
    assert "UnsupportedStore" in told and "Use a store with conditional writes" in told


def test_a_bucket_that_is_not_there(doctor: Doctor) -> None:
    doctor.spec["output"] = {"uri": "s3://no-such-bucket/out/"}
    assert "there is no bucket 'no-such-bucket'" in doctor.problem("output")
    doctor.spec["input"] = {"prompts": "prompts.jsonl", "mediaBasePath": "nowhere/"}
    assert "nothing is there; correct input.mediaBasePath" in doctor.problem("media")


def test_no_credentials(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    doctor.spec["output"] = {"uri": "s3://eval/out/"}
    told = doctor.problem("output")
    assert "no credentials for s3://eval/out/" in told and "set AWS_ACCESS_KEY_ID" in told


# Broken models and workers


def test_a_damaged_checkpoint(doctor: Doctor) -> None:
    model = doctor.folder / "model"
    shutil.copytree(DEMO_MODEL, model)
    weights = model / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    doctor.spec["model"]["uri"] = str(model)
    told = doctor.problem("checkpoint")
    assert "model.safetensors can't be read" in told and "InvalidCheckpoint" in told
    doctor.spec["model"]["uri"] = str(doctor.folder / "videos" / "none")
    assert "no model there; expected a .nemo file" in doctor.problem("checkpoint")


def test_a_decoder_that_the_job_names_and_nobody_installed(doctor: Doctor) -> None:
    doctor.spec["media"] = {"decoder": "torchcodec"}
    told = doctor.problem("decoders")
    assert "torchcodec is not installed" in told and "take auto or pyav" in told


def test_a_decoder_that_does_not_load_or_not_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.doctor, "_DECODERS", ("av",))
    monkeypatch.setattr(worker.doctor, "_IMPORT_S", 0.001)
    [finding] = [f for f in worker.doctor.examine(None) if f.part == "decoders"]
    assert finding.verdict is Verdict.PROBLEM
    assert "was not loaded after 0.001 s; look again" in finding.words
    monkeypatch.setattr(worker.doctor, "_IMPORT_S", 60)
    (tmp_path / "av.py").write_text("raise OSError('no libavcodec')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    [finding] = [f for f in worker.doctor.examine(None) if f.part == "decoders"]
    assert "does not load: OSError: no libavcodec; install it again" in finding.words


def test_too_little_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_MEDIA_SHARED_BYTES", str(1 << 60))
    settings.cache_clear()
    finding = worker.doctor.shared_memory(tmp_path)
    settings.cache_clear()
    assert finding.verdict is Verdict.PROBLEM
    assert "workers.shmSize" in finding.advice
    gone = worker.doctor.shared_memory(tmp_path / "none")
    assert (gone.verdict, "No such file" in gone.found) == (Verdict.PROBLEM, True)


@pytest.mark.parametrize(
    ("num_gpus", "driver", "verdict", "words"),
    [
        (2, True, Verdict.PROBLEM, "the job's 4 ranks need one each"),
        (4, True, Verdict.OK, "4 x H"),
        (0, True, Verdict.PROBLEM, "can't use it: NVRM 580"),
        (0, False, Verdict.OK, "ranks run on the CPU"),
    ],
)
def test_gpus_that_are_missing_or_unusable(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    num_gpus: int,
    driver: bool,
    verdict: Verdict,
    words: str,
) -> None:
    class Properties:
        name = "H100"

    cuda = worker.doctor.torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(cuda, "device_count", lambda: num_gpus)
    monkeypatch.setattr(cuda, "get_device_properties", lambda _: Properties())
    version = tmp_path / "version"
    if driver:
        version.write_text("NVRM 580\n")
    monkeypatch.setattr(worker.doctor, "DRIVER", version)
    finding: Finding = worker.doctor.gpus(4)
    assert finding.verdict is verdict
    assert words in finding.found


# Broken judges


def _judge(status: int, words: str) -> Callable[..., Any]:
    async def answer(seen: Any, writer: Any) -> None:
        await send_json(writer, {"error": {"message": words}}, status)

    return answer


@pytest.mark.parametrize(
    ("status", "words", "told"),
    [
        (401, "bad key", "refused the API key (HTTP 401)"),
        (404, "no such model", "does not know the model 'mixtral'"),
        (503, "down", "answered HTTP 503"),
    ],
)
def test_a_judge_that_refuses(doctor: Doctor, status: int, words: str, told: str) -> None:
    with serving(_judge(status, words)) as (url, log):
        doctor.spec["judge"] = _judge_block(doctor, url)
        doctor.set("API_TOKEN", "s3cret-key")
        found = doctor.problem("judge")
    assert told in found and words in found
    assert "s3cret-key" not in found
    assert len(log.seen) == 1 and "s3cret-key" in log.seen[0].headers


def test_a_judge_that_is_away_and_one_without_a_key(doctor: Doctor) -> None:
    [port] = free_ports("nobody").values()
    doctor.spec["judge"] = _judge_block(doctor, f"http://127.0.0.1:{port}/v1")
    found = doctor.problem("judge")
    assert "can't be reached" in found and "correct judge.endpoint" in found
    with serving(_judge(401, "who are you")) as (url, _):
        doctor.spec["judge"] = _judge_block(doctor, url)
        assert "API_TOKEN is not set here" in doctor.problem("judge")


def _judge_block(doctor: Doctor, url: str) -> dict[str, Any]:
    (doctor.folder / "reference.jsonl").write_text("{}\n")
    return {"endpoint": url, "model": "mixtral", "against": ["reference.jsonl"]}


# Broken clusters


def test_a_cluster_without_our_kinds_or_rights_or_at_all(doctor: Doctor) -> None:
    with running_cluster(doctor.folder) as cluster:
        _use(doctor, cluster)
        found = doctor.ask()
        assert "Kubernetes v1.36" in found["cluster"]["found"]
        assert found["kinds"]["verdict"] == found["rights"]["verdict"] == "ok"
        assert cluster.emulator is not None
        cluster.emulator.requests.denied = {("create", PLURAL), ("list", "pods")}
        told = doctor.problem("rights")
        assert f"not allowed in the namespace default: create {PLURAL}, list pods;" in told
        assert "ClusterRole" in told
    told = doctor.problem("cluster")
    assert "Connection refused" in told and "correct KUBECONFIG" in told
    with running_emulator() as emulator:
        path = emulator.write_kubeconfig(doctor.folder / "bare.kubeconfig", "me")
        doctor.set("KUBECONFIG", str(path))
        told = doctor.problem("kinds")
        assert "is not installed there; install the chart" in told


def test_the_operators_pod_is_told_of_the_operators_rights(doctor: Doctor) -> None:
    config = {
        "workerImage": "w",
        "controllerImage": "c",
        "redis": {"secretName": "r"},
        "namespaces": ["team-a"],
        "cluster": {"kueue": True},
    }
    path = doctor.folder / "operator.yaml"
    path.write_text(yaml.safe_dump(config))
    with running_cluster(doctor.folder) as cluster:
        _use(doctor, cluster)
        doctor.set("NEVA_OPERATOR_CONFIG", str(path))
        assert cluster.emulator is not None
        # What people's commands need beside: no matter here.
        cluster.emulator.requests.denied = {("get", "pods")}
        assert doctor.ask()["rights"]["found"] == "the operator's, in team-a"
        cluster.emulator.requests.denied = {("watch", "workloads"), ("update", "leases")}
        told = doctor.problem("rights")
    assert "not allowed: watch workloads in team-a, update leases in default; install" in told


def test_another_pods_service_account_is_told_what_it_may_not_do_and_not_blamed(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_cluster(doctor.folder) as cluster:
        _use(doctor, cluster)
        by_account = kube.ClientTransport.of_user()
        monkeypatch.delenv("KUBECONFIG")
        doctor.set("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        found = doctor.ask()["cluster"]
        assert found["verdict"] == "skipped" and "no service account's token" in found["found"]
        token = doctor.folder / "token"
        token.write_text("t")
        monkeypatch.setattr(kube, "_TOKEN_FILE", token)
        monkeypatch.setattr(kube.ClientTransport, "of_user", lambda: by_account)
        assert cluster.emulator is not None
        cluster.emulator.requests.denied = {("create", PLURAL), ("list", "pods")}
        found = doctor.ask()["rights"]
    assert found["verdict"] == "ok"
    assert f"may not, in default: create {PLURAL}, list pods;" in found["found"]


def _use(doctor: Doctor, cluster: Cluster) -> None:
    doctor.set("KUBECONFIG", str(cluster.kubeconfig))


# The command


def test_a_broken_job_file_is_a_finding_and_the_rest_is_looked_at(doctor: Doctor) -> None:
    doctor.spec["model"]["tensorParallel"] = 4
    found = doctor.ask()
    assert "did you mean tensorParallelSize?" in found["job"]["found"]
    assert found["output" if "output" in found else "store"]["verdict"] == "skipped"
    assert found["broker"]["verdict"] == "ok"


def test_people_get_a_line_each(doctor: Doctor) -> None:
    doctor.set("NEVA_REDIS_URL", "http://example.org")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert lines["broker"].startswith("problem  broker         ")
    assert "it must begin with one of redis://" in lines["broker"]
    assert lines["store"] == "skipped  store          no job file names one"
