"""From a configuration's values to a job's; every complaint names the configuration's own key."""

from __future__ import annotations

import re
from typing import Any

import pytest
from omegaconf import OmegaConf

from controller.evaluate.config import read_config, shipped_conf
from controller.evaluate.to_job import Asked, asked_by, job_name
from neva.errors import ConfigError
from neva.job_file import parse_job
from neva.spec import VideoNevaJob
from tests.controller.evaluate.lines import FINETUNED_LINE, PROJECTOR_LINE, words

PLACES = {
    "devices": 4,
    "model": "/m/p.nemo",
    "base": "/m/base.nemo",
    "prompts": "/d/prompts.jsonl",
    "videos": "/d/videos",
    "output": "/d/out.jsonl",
}
NEEDED = (
    *("neva_model_file=m", "prompt_file=p.jsonl", "output_file=o.jsonl"),
    "inference.media_base_path=v",
)


SHIPPED = OmegaConf.load(shipped_conf() / "neva_inference.yaml")


def asked(*overrides: str) -> Asked:
    """As Hydra would have it; quicker."""
    values = OmegaConf.from_dotlist([word.removeprefix("+") for word in overrides])
    config = OmegaConf.to_container(OmegaConf.merge(SHIPPED, values))
    assert isinstance(config, dict)
    return asked_by(config, "conf")


def asked_by_line(line: str) -> Asked:
    _, _, *overrides = words(line, PLACES)
    config = read_config(str(shipped_conf()), "neva_inference.yaml", overrides)
    return asked_by(config.data, "conf")


def job(*overrides: str, on_cpu: bool = False) -> VideoNevaJob:
    return parse_job(asked(*overrides).job("x", "/d/run/", on_cpu=on_cpu), "conf")


def test_the_guides_line_with_a_projector_is_this_job() -> None:
    found = asked_by_line(PROJECTOR_LINE)
    spec = parse_job(found.job("x", "/d/run/", on_cpu=True), "conf").spec
    assert (found.output_file, found.notes) == ("/d/out.jsonl", ())
    assert (spec.model.uri, spec.model.base_model) == ("/m/p.nemo", "/m/base.nemo")
    assert (spec.model.tensor_parallel_size, spec.model.pipeline_parallel_size) == (4, 1)
    assert (spec.model.precision, spec.model.quantization.enable) == ("bf16", False)
    assert spec.model.compat.output_format == "nemo-rc0"
    assert spec.input.prompts == "/d/prompts.jsonl"
    assert (spec.media_base_path, spec.media_type) == ("/d/videos", "video")
    inference = spec.inference
    assert (inference.temperature, inference.top_k, inference.top_p) == (0.2, 0, 0.9)
    assert (inference.greedy, inference.repetition_penalty) == (False, 1.2)
    assert (inference.insert_media_token, inference.tokens_to_generate) == ("right", 256)
    assert spec.output.uri == "/d/run/"
    assert spec.workers.gpus_per_worker == 0


def test_the_guides_line_with_a_finetuned_model_differs_in_the_base_alone() -> None:
    ours, theirs = asked_by_line(FINETUNED_LINE), asked_by_line(PROJECTOR_LINE)
    assert theirs.spec["model"].pop("baseModel") == "/m/base.nemo"
    assert ours == theirs


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("bf16-mixed", "bf16"), ("16", "fp16"), ("16-mixed", "fp16"), ("32", "fp32")],
)
def test_precisions_by_lightnings_names(precision: str, expected: str) -> None:
    assert job(*NEEDED, f"trainer.precision={precision}").spec.model.precision == expected


def test_null_as_the_media_tokens_side_reaches_the_job() -> None:
    found = asked(*NEEDED, "inference.insert_media_token=null").spec
    assert found["inference"]["insert_media_token"] == "null"
    assert (
        job(*NEEDED, "inference.insert_media_token=null").spec.inference.insert_media_token is None
    )


def test_quantization_is_read_where_it_is_enabled() -> None:
    assert "quantization" not in asked(*NEEDED, "quantization.algorithm=int8").spec["model"]
    on = job(*NEEDED, "quantization.enable=True", "+quantization.num_samples=5").spec.model
    assert (on.quantization.algorithm, on.quantization.calibration_rows) == ("awq", 5)
    assert "quantization.algorithm: input should be" in problem(
        *NEEDED, "quantization.enable=True", "quantization.algorithm=int8"
    )


def test_keys_that_nothing_reads_are_told_when_somebody_sets_them() -> None:
    notes = asked(*NEEDED, "quality=4", "server=True", "+inference.batch_size=8").notes
    assert set(notes) == {
        "quality has no effect",
        "server has no effect",
        "inference.batch_size has no effect",
    }


def test_no_note_and_no_complaint_repeats_a_password() -> None:
    assert asked(*NEEDED, "password=s3cret").notes == ("password has no effect",)
    words = problem(*NEEDED, "neva_model_file=https://me:s3cret@models/m.nemo")
    assert "https://…@models/m.nemo" in words


def problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        asked(*overrides)
    return caught.value.message


def test_all_missing_keys_are_named_at_once() -> None:
    message = problem()
    for key in ("neva_model_file", "prompt_file", "output_file", "inference.media_base_path"):
        assert f"{key}: missing; give {key}=PATH" in message


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("inference.temperature=0", "inference.temperature: input should be greater than 0"),
        ("inference.all_probs=True", "inference.all_probs: needs compute_logprob"),
        ("inference.media_type=audio", "inference.media_type: input should be 'video' or 'image'"),
        ("tensor_model_parallel_size=-1", "tensor_model_parallel_size: input should be greater"),
        ("tensor_model_parallel_size=x", "tensor_model_parallel_size: input should be a valid int"),
        ("compat.color_order=grb", "compat.color_order: input should be 'rgb' or 'bgr'"),
        ("fail_on_error=-1", "fail_on_error: input should be greater than or equal to 0"),
        ("neva_model_file=gs://b/m", "neva_model_file: must be s3://bucket/path, file:///path"),
        ("output_file=p.jsonl", "output_file: is prompt_file, which it would replace"),
        ("checkpoint_dir=/c", "checkpoint_dir: PyTorch Lightning checkpoints are not read"),
        ("+add_media_sep=True", "add_media_sep: no prompt template has that separator"),
        ("+inference.foo=1", "inference.foo: unknown key"),
        ("inference=null", "inference: is a block of keys"),
        ("trainer=4", "trainer: is a block of keys"),
        ("trainer.precision=int4", "trainer.precision is 'int4': bf16, 16 or 32"),
        ("trainer.devices=8", "trainer.devices is 8, but tensor_model_parallel_size x"),
    ],
)
def test_wrong_values_are_named_by_the_configurations_keys(override: str, words: str) -> None:
    assert words in problem(*NEEDED, override)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("results", "results"),
        ("My Answers_2", "my-answers-2"),
        ("…", "evaluate"),
        ("a" * 70, "a" * 63),
    ],
)
def test_a_files_name_becomes_a_jobs(stem: str, name: str) -> None:
    assert job_name(stem) == name
    assert re.fullmatch(r"[a-z0-9-]+", name)


def test_a_users_own_file_of_nemo_needs_none_of_our_keys() -> None:
    config: dict[str, Any] = {
        "inference": {"media_base_path": "/v", "media_type": "image", "insert_media_token": None},
        "trainer": {"devices": 8, "num_nodes": 1, "accelerator": "gpu", "precision": "bf16"},
        "tensor_model_parallel_size": 8,
        "neva_model_file": "/m.nemo",
        "prompt_file": "/p.jsonl",
        "output_file": "/o.jsonl",
        "server": False,
    }
    found = asked_by(config, "conf")
    assert found.devices.num_ranks == 8
    assert found.spec["model"]["compat"] == {"outputFormat": "nemo-rc0"}
