"""Where an evaluation's run and answers lie, and which vision tower it takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.evaluate.places import answers_file, named_tower, run_folder
from neva.errors import ConfigError
from neva.job_file import parse_job
from neva.spec import JobSpec
from neva.spec_model import Model


def test_a_folder_means_a_file_in_it(tmp_path: Path) -> None:
    assert answers_file(f"{tmp_path}") == f"{tmp_path}/results.jsonl"
    assert answers_file("s3://b/answers/") == "s3://b/answers/results.jsonl"
    assert answers_file(f"{tmp_path}/a.json") == f"{tmp_path}/a.json"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "prompts.jsonl").write_text("{}\n")
    return tmp_path


def spec(place: Path, **inference: Any) -> JobSpec:
    job = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "x"},
        "spec": {
            "model": {"uri": f"{place}/model"},
            "input": {"prompts": f"{place}/prompts.jsonl", "mediaBasePath": "/v"},
            "inference": inference,
            "output": {"uri": "/o"},
        },
    }
    return parse_job(job, "test").spec


def test_the_same_questions_to_the_same_model_are_the_same_run(place: Path) -> None:
    first = run_folder("/a/r.jsonl", spec(place))
    assert first.startswith("/a/r.run/")
    assert first.endswith("/")
    assert run_folder("/a/r.jsonl", spec(place)) == first
    assert run_folder("s3://b/r.jsonl", spec(place)) == first.replace("/a/", "s3://b/")
    assert run_folder("/a/r.jsonl", spec(place, seed=1)) != first
    (place / "prompts.jsonl").write_text("{}\n{}\n")
    changed = run_folder("/a/r.jsonl", spec(place))
    assert changed != first
    os.utime(place / "model" / "config.json", (1, 1))  # retrained to the same place and size
    assert run_folder("/a/r.jsonl", spec(place)) not in (first, changed)


def test_missing_prompts_are_named(place: Path) -> None:
    (place / "prompts.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"prompts\.jsonl does not exist"):
        run_folder("/a/r.jsonl", spec(place))


def nemo_model(place: Path, tower: str | None) -> Model:
    config = {"mm_cfg": {"vision_encoder": {"from_pretrained": tower}, "llm": {}}}
    (place / "nemo").mkdir()
    (place / "nemo" / "model_config.yaml").write_text(yaml.safe_dump(config))
    return Model(uri=f"{place}/nemo")


def test_the_tower_that_a_checkpoint_names_is_taken_if_it_is_here(place: Path) -> None:
    model = nemo_model(place, f"{place}/model")
    assert named_tower(model) == f"{place}/model"
    assert named_tower(model.model_copy(update={"vision_encoder": "/other"})) is None
    assert named_tower(Model(uri=f"{place}/model")) is None, "a Hugging Face model has its own"


@pytest.mark.parametrize("tower", ["openai/clip-vit-large-patch14", "/nowhere", None])
def test_a_tower_that_is_not_here_is_asked_for(place: Path, tower: str | None) -> None:
    with pytest.raises(ConfigError, match="give one by vision_encoder=PATH"):
        named_tower(nemo_model(place, tower))
