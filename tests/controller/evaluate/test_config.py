"""Hydra's overrides over a neva_inference.yaml, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from controller.evaluate.config import read_config, shipped_conf
from controller.evaluate.keys import HIDDEN, KNOWN, UNREAD, leaves
from neva.errors import ConfigError
from neva.spec import Inference
from neva.spec_model import Compat, Model, Quantization

NAME = "neva_inference.yaml"


def shipped() -> dict[str, Any]:
    return dict(leaves(yaml.safe_load((shipped_conf() / NAME).read_text(encoding="utf-8"))))


def read(*overrides: str, path: Path | None = None) -> dict[str, Any]:
    return dict(leaves(read_config(str(path or shipped_conf()), NAME, overrides).data))


def refusal(*overrides: str, path: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        read(*overrides, path=path)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_shipped_file_has_every_key_but_those_that_nemo_hides() -> None:
    assert shipped().keys() == KNOWN - HIDDEN


def test_its_defaults_are_the_jobs_and_dead_keys_have_nemos() -> None:
    found = shipped()
    defaults = {f"inference.{k}": v for k, v in Inference().model_dump(mode="json").items()}
    ours = {"inference.media_base_path": "???", "inference.media_type": "video"}
    compat = {f"compat.{k}": v for k, v in Compat().model_dump().items()}
    quantization = Quantization().model_dump(include={"enable", "algorithm", "group_size"})
    expected = {
        **{**defaults, **ours},
        **{**compat, "compat.output_format": "nemo-rc0"},
        **{f"quantization.{key}": value for key, value in quantization.items()},
        **{key: value for key, value in UNREAD.items() if key not in HIDDEN},
        "trainer.precision": Model.model_fields["precision"].default,
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "fail_on_error": 0.05,
    }
    assert {key: found[key] for key in expected} == expected


def test_overrides_change_add_and_remove() -> None:
    found = read(
        "inference.greedy=True",
        'inference.end_strings=["</s>"]',
        "+quantization.num_samples=7",
        "++inference.seed=3",
        "~server",
        "inference.insert_media_token=null",
        "neva_model_file=s3://models/a b",
    )
    assert found["inference.greedy"] is True
    assert found["inference.end_strings"] == ["</s>"]
    assert found["quantization.num_samples"] == 7
    assert found["inference.seed"] == 3
    assert "server" not in found
    assert found["inference.insert_media_token"] is None
    assert found["neva_model_file"] == "s3://models/a b"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("inference.gredy=1", "inference.gredy: unknown key; did you mean inference.greedy?"),
        ("data.num_frames=4", "data.num_frames: unknown key; did you mean inference.num_frames?"),
        ("inference.insert_image_token=left", "did you mean inference.insert_media_token?"),
        ("temperature=0.5", "temperature: unknown key; did you mean inference.temperature?"),
        ("qwertz=1", "qwertz: unknown key"),
        ("~qwertz", "qwertz: unknown key"),
        ("+inference.seed=1", f"{NAME} has inference.seed: write inference.seed=1"),
        ("add_media_sep=True", "has no add_media_sep; +add_media_sep=True adds it"),
        ("trainer.devices=1,2", "several values; one list is trainer.devices=[…,…]"),
        ("greedy", "greedy: expected key=value"),
        ("--greedy", "--greedy: expected key=value"),
        ("neva_model_file=/a/epoch=1.nemo", "'neva_model_file=\"/a/epoch=1.nemo\"'"),
        ("inference.end_strings=[<a>]", "goes in double quotes"),
        ("prompt_file=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
        ("+hydra/job_logging=none_such", "hydra/job_logging"),
    ],
)
def test_a_wrong_override_is_one_line_with_the_way_out(override: str, words: str) -> None:
    assert words in refusal("inference.top_k=1", override)


def test_an_override_of_hydras_own_is_said_to_do_nothing() -> None:
    config = read_config(str(shipped_conf()), NAME, ["hydra.run.dir=/x"])
    assert config.notes == ("hydra.run.dir: not used, nothing of Hydra's is written",)


@pytest.mark.parametrize(
    "override",
    [
        "+password=s3cret",
        "password=s3cret=x",
        "api_key=s3cret,x",
        "+username='redis://:s3cret@host'",
    ],
)
def test_a_refused_override_does_not_repeat_its_secret(override: str) -> None:
    assert "s3cret" not in refusal(override)


def test_a_folder_of_ones_own_wins(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("inference: {greedy: True}\nquality: 3\n")
    assert read("inference.greedy=False", path=tmp_path) == {
        "inference.greedy": False,
        "quality": 3,
    }
    message = refusal("inference.seed=1", path=tmp_path)
    assert message.endswith("has no inference.seed; +inference.seed=1 adds it")


def test_without_a_conf_here_the_shipped_one_is_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = read_config("conf/", "neva_inference", [])
    assert config.file == shipped_conf() / NAME
    assert config.notes == (f"there is no conf/{NAME} here; taking {config.file}",)
    with pytest.raises(ConfigError, match=f"elsewhere/{NAME} does not exist; --config-path=conf"):
        read_config("elsewhere", NAME, [])
    with pytest.raises(ConfigError, match=r"conf/other\.yaml does not exist"):
        read_config("conf", "other", [])


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "defaults: [nowhere]\n"])
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / NAME).write_text(text)
    assert NAME in refusal(path=tmp_path)
