from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neva.job_file import JobFileError, answer_digest, load_job, parse_job
from neva.spec import Failure, VideoNevaJob

DESIGN_JOB: dict[str, Any] = {
    "apiVersion": "neva-batch.dev/v1alpha1",
    "kind": "VideoNevaJob",
    "metadata": {"name": "kitchen"},
    "spec": {
        "model": {"uri": "s3://models/llava/", "tensorParallelSize": 4, "precision": "bf16"},
        "input": {
            "prompts": "s3://eval/prompts.jsonl",
            "mediaBasePath": "s3://eval/videos/",
            "mediaType": "video",
        },
        "inference": {
            "temperature": 0.2,
            "top_k": 0,
            "top_p": 0.9,
            "greedy": False,
            "tokens_to_generate": 256,
            "repetition_penalty": 1.2,
            "insert_media_token": "right",
            "seed": 0,
        },
        "output": {"uri": "s3://eval/runs/kitchen/"},
        "workers": {"replicas": 2, "gpusPerWorker": 4, "queueName": "gpu-queue"},
        "shards": {"maxRows": 64},
        "failure": {"maxAttempts": 3, "failOnError": 0.05},
        "judge": {"apiKeySecret": "judge-key", "against": ["s3://eval/reference.jsonl"]},
        "suspend": False,
        "ttlSecondsAfterFinished": 604800,
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """The design's job with one value replaced, or removed if the value is ..."""
    job: dict[str, Any] = yaml.safe_load(yaml.safe_dump(DESIGN_JOB))
    *parents, last = path.split(".")
    block = job
    for parent in parents:
        block = block.setdefault(parent, {})
    if value is ...:
        del block[last]
    else:
        block[last] = value
    return job


def problems(job: dict[str, Any]) -> list[str]:
    with pytest.raises(JobFileError) as caught:
        parse_job(job, "job.yaml")
    return caught.value.problems


def test_the_designs_job_is_valid_and_survives_a_round_trip() -> None:
    job = parse_job(DESIGN_JOB, "job.yaml")
    dumped = job.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert VideoNevaJob.model_validate(dumped) == job


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("kind", "Job", "kind: "),
        ("metadata.name", "Kitchen", "metadata.name: must be lower case"),
        ("spec.model", ..., "spec.model: missing"),
        ("spec.model.uri", "http://x/y", "spec.model.uri: must be s3://"),
        ("spec.model.tensor_parallel_size", 2, "; did you mean tensorParallelSize?"),
        ("spec.model.precision", "int4", "spec.model.precision: "),
        ("spec.input.mediaBasePath", ..., "spec.input.mediaBasePath: missing"),
        ("spec.inference.topp", 0.5, "; did you mean top_p?"),
        ("spec.inference.temperature", 0, "spec.inference.temperature: "),
        ("spec.inference.top_p", float("nan"), "spec.inference.top_p: "),
        ("spec.inference.greedy", "yes", "spec.inference.greedy: "),
        ("spec.inference.end_strings", ["a", ""], "spec.inference.end_strings.1: "),
        ("spec.inference.min_tokens_to_generate", 300, "is larger than tokens_to_generate"),
        (
            "spec.inference",
            {"splice_single_frame": "first", "num_frames": 4},
            "num_frames: must be null or 1",
        ),
        ("spec.inference.media_type", "image", "input.mediaType: differs"),
        ("spec.workers.gpusPerWorker", 3, "workers.gpusPerWorker: is 3; the ranks are 4 x 1"),
        ("spec.judge.against", [], "spec.judge.against: "),
        ("spec.failure.failOnError", -1, "spec.failure.failOnError: "),
        ("spec.greedy", True, "spec.greedy: unknown key; it belongs under spec.inference"),
        ("spec.model.pipelineParallelSize", 2, "workers.gpusPerWorker: is 4; the ranks are 4 x 2"),
        ("spec.model.quantization", {"groupSize": 33}, "spec.model.quantization.groupSize: "),
        ("spec.model.quantization", {"algorithm": "int8"}, "spec.model.quantization.algorithm: "),
        ("spec.model.compat", {"colorOrder": "gbr"}, "spec.model.compat.colorOrder: "),
        ("spec.inference.all_probs", True, "all_probs: needs compute_logprob"),
    ],
)
def test_a_wrong_value_is_named_with_its_path(path: str, value: object, problem: str) -> None:
    job = changed(path, value)
    assert any(problem in found for found in problems(job))


def test_all_problems_come_at_once() -> None:
    job = changed("spec.inference.top_p", 2)
    job["metadata"]["name"] = "No"
    del job["spec"]["input"]["mediaBasePath"]
    job["spec"]["model"]["tenserParallelSize"] = 1
    paths = [problem.partition(":")[0] for problem in problems(job)]
    assert sorted(paths) == [
        "metadata.name",
        "spec.inference.top_p",
        "spec.input.mediaBasePath",
        "spec.model.tenserParallelSize",
    ]


def test_a_nemo_inference_block_can_be_pasted_in() -> None:
    block = {
        "greedy": False,
        "top_k": 0,
        "top_p": 0.9,
        "temperature": 0.2,
        "add_BOS": False,
        "tokens_to_generate": 256,
        "all_probs": False,
        "repetition_penalty": 1.2,
        "min_tokens_to_generate": 0,
        "compute_logprob": False,
        "end_strings": ["<extra_id_1>", "<extra_id_7>"],
        "media_base_path": "s3://eval/videos/",
        "insert_media_token": "null",
        "media_type": "video",
    }
    job = changed("spec.inference", block)
    del job["spec"]["input"]["mediaBasePath"], job["spec"]["input"]["mediaType"]
    spec = parse_job(job, "job.yaml").spec
    assert (spec.media_base_path, spec.media_type) == ("s3://eval/videos/", "video")
    assert spec.inference.insert_media_token is None


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    job = changed("spec.model.uri", "model")
    job["spec"]["input"]["mediaBasePath"] = "videos/"
    job["spec"]["judge"]["against"] = ["../reference.jsonl"]
    job["spec"]["model"]["quantization"] = {"calibrationPrompts": "seen.jsonl"}
    path = tmp_path / "jobs" / "job.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    spec = load_job(path).spec
    assert spec.model.uri == str(tmp_path / "jobs" / "model")
    assert spec.model.quantization.calibration_prompts == str(tmp_path / "jobs" / "seen.jsonl")
    assert spec.media_base_path == f"{tmp_path}/jobs/videos/"
    assert spec.judge is not None
    assert spec.judge.against == (str(tmp_path / "reference.jsonl"),)
    assert spec.input.prompts == "s3://eval/prompts.jsonl"


@pytest.mark.parametrize(
    ("text", "words"),
    [(None, "can't be read"), ("a: [", "no YAML"), ("- a", "no job"), ("\tx: 1", "no YAML")],
)
def test_what_is_no_job_file_is_said_in_a_line(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "job.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(JobFileError, match=words):
        load_job(path)


def test_the_answer_digest_ignores_what_answers_do_not_depend_on() -> None:
    base = answer_digest(parse_job(DESIGN_JOB, "j").spec)
    more_workers = changed("spec.workers.replicas", 7)
    assert answer_digest(parse_job(more_workers, "j").spec) == base
    one_rank = changed("spec.model.tensorParallelSize", 1)
    one_rank["spec"]["model"]["pipelineParallelSize"] = 3
    one_rank["spec"]["workers"] = {}
    assert answer_digest(parse_job(one_rank, "j").spec) == base
    assert answer_digest(parse_job(changed("spec.inference.seed", 1), "j").spec) != base


@pytest.mark.parametrize(
    ("fail_on_error", "failed", "tolerated"),
    [
        (True, 0, True),
        (True, 1, False),
        (False, 100, True),
        (0.05, 5, True),
        (0.05, 6, False),
        (0, 0, True),
        (0, 1, False),
        (1, 1, True),
        (3, 4, False),
    ],
)
def test_the_failure_threshold(fail_on_error: float | bool, failed: int, tolerated: bool) -> None:
    failure = Failure.model_validate({"failOnError": fail_on_error})
    assert failure.tolerates(failed, 100) is tolerated


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["spec", "model", "input", "judge", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_any_junk_gives_problems_and_never_a_traceback(junk: object) -> None:
    assert problems({**DESIGN_JOB, "spec": junk})


@pytest.mark.parametrize("place", ["input.mediaType", "inference.media_type"])
def test_what_is_about_frames_of_videos_is_refused_for_images(place: str) -> None:
    inference = {"num_frames": 8, "splice_single_frame": "last"}
    job = changed("spec.inference", inference)
    block, key = place.split(".")
    job["spec"]["input"].pop("mediaType", None)
    job["spec"][block][key] = "image"
    found = problems(job)
    assert any("inference.num_frames: must be null or 1: an image" in line for line in found)
    assert any("inference.splice_single_frame: must be null" in line for line in found)
    inference.update(num_frames=1, splice_single_frame="null")  # type: ignore[dict-item]
    parse_job(job, "job.yaml")


@pytest.mark.parametrize("key", ["batch_size", "images_base_path", "insert_image_token"])
def test_a_key_that_is_not_known_is_refused_by_name(key: str) -> None:
    assert any(
        f"spec.inference.{key}: unknown key" in line
        for line in problems(changed("spec.inference", {key: 1}))
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.model.compat", {"colorOrder": "bgr", "repetitionPenalty": "nemo-rc0"}),
        ("spec.model.compat", {"cleanResponse": "nemo-rc0", "outputFormat": "nemo-rc1"}),
        ("spec.inference", {"compute_logprob": True, "all_probs": True}),
        ("spec.inference", {"splice_single_frame": "last"}),
        ("spec.inference", {"add_BOS": True, "end_strings": ["###"]}),
    ],
)
def test_what_the_original_knows_is_taken(path: str, value: object) -> None:
    parse_job(changed(path, value), "job.yaml")
