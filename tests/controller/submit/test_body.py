"""What `neva submit` sends, without a cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.submit.body import output_folder
from neva.job_file import parse_job

SPEC: dict[str, Any] = {
    "model": {"uri": "s3://models/m/"},
    "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
    "output": {"uri": "s3://eval/runs/kitchen/"},
}
OVERRIDES = (
    *("neva_model_file=s3://models/m.nemo", "vision_encoder=s3://models/clip/"),
    *("prompt_file=s3://eval/p.jsonl", "inference.media_base_path=s3://eval/v/"),
    *("output_file=s3://eval/runs/Kitchen_1.jsonl", "inference.insert_media_token=null"),
    *("tensor_model_parallel_size=4", "trainer.devices=4"),
)
CONFIG = ("--config-path=conf", "--config-name=neva_inference.yaml")


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a conf/, and a home without a cluster."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def submit(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["submit", *arguments])


def job_file(folder: Path, spec: dict[str, Any] = SPEC, **metadata: Any) -> str:
    job = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen", **metadata},
        "spec": spec,
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return str(path)


def test_a_configuration_is_printed_as_a_job(empty_folder: Path) -> None:
    done = submit(*CONFIG, *OVERRIDES, "--dry-run", "-o", "yaml", "-n", "eval")
    assert done.exit_code == 0, done.output
    body = yaml.safe_load(done.stdout)
    assert body["metadata"] == {"name": "kitchen-1", "namespace": "eval"}
    spec = parse_job(body, "printed").spec
    assert spec.output.uri == "s3://eval/runs/Kitchen_1/"
    assert spec.model.tensor_parallel_size == 4
    assert spec.inference.insert_media_token is None
    assert body["spec"]["inference"] == {
        "media_base_path": "s3://eval/v/",
        "media_type": "video",
        "insert_media_token": "null",
    }, "defaults are left out, and an API server would drop a null"
    assert "precision" not in body["spec"]["model"]
    assert "workers" not in body["spec"], "no GPU of this machine is counted"
    assert "answers: s3://eval/runs/Kitchen_1/outputs.jsonl" in done.stderr


def test_a_configuration_for_the_cpu_asks_for_no_gpus(empty_folder: Path) -> None:
    line = (*CONFIG, *OVERRIDES, "trainer.accelerator=cpu", "--name", "mine", "--dry-run")
    body = json.loads(submit(*line, "-o", "json").stdout)
    assert body["spec"]["workers"] == {"gpusPerWorker": 0}
    assert body["metadata"]["name"] == "mine"


def test_nulls_of_a_job_file_are_left_out_as_the_server_would_but_keep_their_meaning(
    empty_folder: Path,
) -> None:
    inference = {"insert_media_token": None, "num_frames": None, "top_k": 0}
    template = {"spec": {"hostname": None}}
    spec = {**SPEC, "inference": inference, "judge": None, "workers": {"podTemplate": template}}
    body = yaml.safe_load(submit(job_file(empty_folder, spec), "--dry-run").stdout)
    assert body["spec"] == {
        **SPEC,
        "inference": {"insert_media_token": "null", "top_k": 0},
        "workers": {"podTemplate": template},
    }
    assert parse_job(body, "printed").spec.inference.insert_media_token is None


def test_a_job_file_is_printed_as_it_was_written(empty_folder: Path) -> None:
    path = job_file(empty_folder, labels={"team": "a"}, resourceVersion="7", uid="x")
    body = yaml.safe_load(submit(path, "--dry-run").stdout)
    assert body["spec"] == SPEC
    assert body["metadata"] == {"name": "kitchen", "labels": {"team": "a"}}


@pytest.mark.parametrize(
    ("uri", "folder"),
    [
        ("s3://b/a/", "s3://b/a/"),
        ("s3://b/a/outputs.jsonl", "s3://b/a/"),
        ("s3://b/a/r.v2.jsonl", "s3://b/a/r.v2/"),
        ("s3://b/a/r", "s3://b/a/r/"),
    ],
)
def test_a_cluster_writes_into_a_folder(uri: str, folder: str) -> None:
    assert output_folder(uri) == folder


def test_paths_of_this_machine_are_refused_all_at_once(empty_folder: Path) -> None:
    judge = {"against": ["s3://eval/a.jsonl", "b.jsonl"], "context": "/c.jsonl"}
    spec = {**SPEC, "model": {"uri": "models/m"}, "judge": judge}
    done = submit(job_file(empty_folder, spec), "--dry-run")
    assert done.exit_code == 2
    for words in ("spec.model.uri: models/m", "spec.judge.against: b.jsonl", "/c.jsonl"):
        assert f"{words} is on this machine, where no pod can read it" in done.stderr
    assert "3 problems" in done.stderr


def test_of_a_configuration_by_its_own_keys(empty_folder: Path) -> None:
    local = ("neva_model_file=m.nemo", "output_file=out.jsonl", "inference.media_base_path=v")
    done = submit(*CONFIG, *OVERRIDES, *local, "--dry-run")
    assert done.exit_code == 2
    for words in ("neva_model_file: m.nemo", "output_file: out/", "inference.media_base_path: v"):
        assert f"{words} is on this machine" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("inference.greedy=True",), "KEY=VALUE needs --config-name=neva_inference.yaml"),
        (("a.yaml", "b.yaml"), "expected one job file"),
        (("none.yaml",), "none.yaml: can't be read"),
        (("none.yaml", "--name", "x"), "--name is for configurations"),
        ((*CONFIG, "inference.gredy=True"), "did you mean inference.greedy?"),
        ((*CONFIG, *OVERRIDES, "trainer.num_nodes=2"), "trainer.num_nodes is 2"),
        ((*CONFIG, *OVERRIDES, "--name", "Not_A_Name"), "metadata.name: must be lower case"),
    ],
)
def test_what_is_no_job_is_said(arguments: tuple[str, ...], words: str) -> None:
    done = submit(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_without_a_cluster_it_says_so(empty_folder: Path) -> None:
    done = submit(job_file(empty_folder))
    assert done.exit_code == 2
    assert "no access to a cluster" in done.stderr
