"""The rules of the resource definitions: the schema's, and CEL's by a CEL engine."""

from __future__ import annotations

import copy
from typing import Any

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.crd import all_crds
from controller.crd_rules import DROP_FOLDER_RULES, VIDEO_NEVA_JOB_RULES, Rule
from neva.drop_folder import DropFolder
from neva.spec import VideoNevaJob
from tests.controller.crd import structural
from tests.controller.crd.specs import FOLDER, JOB, changed
from tests.kube.emulator.custom import CustomSchema

_SCHEMAS = {
    crd["spec"]["names"]["kind"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for crd in all_crds()
}
_CHECKERS = {kind: CustomSchema(schema) for kind, schema in _SCHEMAS.items()}
_REASONS = {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"}
STARTED = {"startTime": "2026-01-01T00:00:00Z"}


def causes(resource: dict[str, Any], old: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    """(field, message) of what the schema refuses, after defaults."""
    checker = _CHECKERS[resource["kind"]]
    before = checker.admit(old) if old is not None else None
    found = checker.problems(checker.admit(resource), before)
    return [(cause["field"], cause["message"]) for cause in found]


def test_good_resources_pass() -> None:
    for resource in (JOB, FOLDER):
        assert _CHECKERS[resource["kind"]].unknown_fields(resource) == []
        assert causes(resource) == []


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.model", ..., "spec.model"),
        ("spec.model.uri", "models/llava", "spec.model.uri"),
        ("spec.model.uri", "s3://UPPER/x", "spec.model.uri"),
        ("spec.model.uri", "s3://models/" + "x" * 2048, "spec.model.uri"),
        ("spec.model.precision", "int4", "spec.model.precision"),
        ("spec.model.tensorParallelSize", 0, "spec.model.tensorParallelSize"),
        ("spec.model.compat", {"colorOrder": "gbr"}, "spec.model.compat.colorOrder"),
        (
            "spec.model.quantization",
            {"enable": True, "algorithm": "fp8", "groupSize": 32},
            "spec.model.quantization.groupSize",
        ),
        ("spec.input.prompts", "https://eval/p", "spec.input.prompts"),
        ("spec.input.mediaBasePath", ..., "spec.input.mediaBasePath"),
        ("spec.input.mediaType", "audio", "spec.input.mediaType"),
        ("spec.inference.temperature", 0, "spec.inference.temperature"),
        ("spec.inference.top_p", 1.5, "spec.inference.top_p"),
        ("spec.inference.greedy", "yes", "spec.inference.greedy"),
        ("spec.inference.insert_media_token", "above", "spec.inference.insert_media_token"),
        ("spec.inference.end_strings", [""], "spec.inference.end_strings[0]"),
        ("spec.inference.min_tokens_to_generate", 300, "spec.inference.min_tokens_to_generate"),
        ("spec.inference.splice_single_frame", "middle", "spec.inference.num_frames"),
        ("spec.inference.all_probs", True, "spec.inference.all_probs"),
        ("spec.inference.media_base_path", "s3://eval/other/", "spec.input.mediaBasePath"),
        ("spec.workers.gpusPerWorker", 3, "spec.workers.gpusPerWorker"),
        ("spec.workers.replicas", 0, "spec.workers.replicas"),
        ("spec.workers.shmSize", "lots", "spec.workers.shmSize"),
        ("spec.workers.queueName", "GPU queue", "spec.workers.queueName"),
        ("spec.workers.resources", {"limits": {"cpu": "-1"}}, "spec.workers.resources.limits.cpu"),
        ("spec.workers.tolerations", [{"operator": "In"}], "spec.workers.tolerations[0].operator"),
        ("spec.failure.failOnError", "5%", "spec.failure.failOnError"),
        ("spec.failure.failOnError", "", "spec.failure.failOnError"),
        ("spec.failure.failOnError", [], "spec.failure.failOnError"),
        ("spec.failure.failOnError", {}, "spec.failure.failOnError"),
        ("spec.failure.failOnError", -1, "spec.failure.failOnError"),
        ("spec.judge.against", [], "spec.judge.against"),
        ("spec.judge.endpoint", "ftp://x", "spec.judge.endpoint"),
        ("spec.storage", {}, "spec.storage.secretName"),
        ("spec.activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds"),
        ("metadata.name", "k" * 64, "metadata.name"),
        ("metadata.name", "a.b", "metadata.name"),
    ],
)
def test_a_wrong_job_is_refused_at_its_field(path: str, value: object, field: str) -> None:
    assert field in [found for found, _ in causes(changed(JOB, path, value))]


@pytest.mark.parametrize("value", [True, False, 0, 0.05, 1, 12])
def test_fail_on_error_takes_booleans_and_numbers(value: object) -> None:
    assert causes(changed(JOB, "spec.failure.failOnError", value)) == []


@pytest.mark.parametrize("value", [None, "left", "right", "null"])
def test_the_medias_place_may_be_null_and_its_word(value: object) -> None:
    job = changed(JOB, "spec.inference.insert_media_token", value)
    assert causes(job) == []
    admitted = _CHECKERS["VideoNevaJob"].admit(job)
    assert admitted["spec"]["inference"]["insert_media_token"] == value
    expected = value if value in ("left", "right") else None
    assert VideoNevaJob.model_validate(admitted).spec.inference.insert_media_token == expected


def test_a_null_elsewhere_is_as_good_as_nothing() -> None:
    job = changed(JOB, "spec.inference.num_frames", None)
    job["spec"]["workers"] = None
    assert causes(job) == []
    admitted = _CHECKERS["VideoNevaJob"].admit(job)
    assert "num_frames" not in admitted["spec"]["inference"]
    assert admitted["spec"]["workers"]["replicas"] == 1


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.uri", "s3://eval/inbox", "spec.uri"),
        ("spec.outputBase", "s3://eval/inbox/out/", "spec.outputBase"),
        ("spec.outputBase", ..., "spec.outputBase"),
        ("spec.concurrency", 0, "spec.concurrency"),
        ("spec.marker", "a/b", "spec.marker"),
        ("spec.done.action", "delete", "spec.done.action"),
        ("spec.done.prefix", "/done/", "spec.done.prefix"),
        ("spec.sqs", {}, "spec.sqs.queueUrl"),
        ("spec.template.spec.model", ..., "spec.template.spec.model"),
        (
            "spec.template.spec.workers.gpusPerWorker",
            2,
            "spec.template.spec.workers.gpusPerWorker",
        ),
        (
            "spec.template.spec.inference",
            {"all_probs": True},
            "spec.template.spec.inference.all_probs",
        ),
    ],
)
def test_a_wrong_folder_is_refused_at_its_field(path: str, value: object, field: str) -> None:
    assert field in [found for found, _ in causes(changed(FOLDER, path, value))]


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.model.precision", "fp16", "spec.model"),
        ("spec.model.baseModel", "s3://models/base", "spec.model"),
        ("spec.input.prompts", "s3://eval/others.jsonl", "spec.input"),
        ("spec.inference.seed", 7, "spec.inference"),
        ("spec.inference", {"num_frames": 8}, "spec.inference"),
        ("spec.inference", ..., "spec.inference"),
        ("spec.output.uri", "s3://eval/elsewhere/", "spec.output"),
    ],
)
def test_what_answers_depend_on_is_frozen_once_the_job_has_started(
    path: str, value: object, field: str
) -> None:
    new = changed(JOB, path, value)
    assert causes(new, JOB) == []
    waiting = {**JOB, "status": {"phase": "Pending"}}
    assert causes({**new, "status": waiting["status"]}, waiting) == []
    found = causes({**new, "status": STARTED}, {**JOB, "status": STARTED})
    assert [at for at, _ in found] == [field]
    assert "can't be changed once the job has started" in found[0][1]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.workers.replicas", 9),
        ("spec.workers.podTemplate", {}),
        ("spec.suspend", True),
        ("spec.failure.failOnError", 0.5),
        ("spec.judge", ...),
        ("spec.ttlSecondsAfterFinished", 60),
        ("metadata.labels", {"a": "b"}),
    ],
)
def test_the_rest_may_be_changed_while_it_runs(path: str, value: object) -> None:
    old = {**JOB, "status": STARTED}
    assert causes({**changed(JOB, path, value), "status": STARTED}, old) == []


def test_the_status_may_be_written_once_it_has_started() -> None:
    old = {**JOB, "status": STARTED}
    new = {**JOB, "status": {**STARTED, "phase": "Running", "rows": {"done": 3}}}
    assert causes(new, old) == []


def test_a_condition_needs_type_status_reason_and_time() -> None:
    full = {
        "type": "Queued",
        "status": "True",
        "reason": "Unschedulable",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    assert causes({**JOB, "status": {"conditions": [full]}}) == []
    for name in full:
        part = {key: value for key, value in full.items() if key != name}
        found = causes({**JOB, "status": {"conditions": [part]}})
        assert [field for field, _ in found] == [f"status.conditions[0].{name}"]


# The rules as such

ALL_RULES = [
    *(("VideoNevaJob", rule) for rule in VIDEO_NEVA_JOB_RULES),
    *(("DropFolder", rule) for rule in DROP_FOLDER_RULES),
]


@pytest.mark.parametrize(("kind", "rule"), ALL_RULES, ids=lambda v: getattr(v, "field", v))
def test_every_rule_compiles_and_blames_a_field_that_exists(kind: str, rule: Rule) -> None:
    cel.compile(rule.expression)
    known = {path for path, _ in structural.walk(_SCHEMAS[kind])}
    at = f".{rule.at}" if rule.at else ""
    assert f"{at}.{rule.field}" in known
    assert rule.reason in _REASONS
    assert len(rule.message) <= 2048
    assert "\n" not in rule.expression + rule.message


@pytest.mark.parametrize(("kind", "rule"), ALL_RULES, ids=lambda v: getattr(v, "field", v))
def test_every_optional_field_of_a_rule_is_guarded(kind: str, rule: Rule) -> None:
    """A rule that reads an absent field is an error to the API server, which then refuses."""
    at = f".{rule.at}" if rule.at else ""
    nodes = dict(structural.walk(_SCHEMAS[kind]))
    for variable in ("self", "oldSelf"):
        for words in rule.expression.replace("(", " ").replace(")", " ").replace("!", " ").split():
            if not words.startswith(f"{variable}."):
                continue
            path = at
            steps = words.removesuffix(".startsWith").split(".")[1:]
            read = variable
            for step in steps:
                block = nodes[path]
                read, path = f"{read}.{step}", f"{path}.{step}"
                if path not in nodes:
                    break  # a function
                if step in block.get("required", ()) or "default" in nodes[path]:
                    continue
                assert f"has({read})" in rule.expression, f"{read} in {rule.expression}"


@st.composite
def job_parts(draw: st.DrawFn) -> dict[str, Any]:
    """Specs of right types whose fields may contradict each other; optional ones come and go."""

    def maybe(block: dict[str, Any], name: str, values: list[Any]) -> None:
        if draw(st.booleans()):
            block[name] = draw(st.sampled_from(values))

    model: dict[str, Any] = {"uri": "s3://models/m"}
    maybe(model, "tensorParallelSize", [1, 2, 4])
    maybe(model, "pipelineParallelSize", [1, 2])
    if draw(st.booleans()):
        quantization = model["quantization"] = {}
        maybe(quantization, "enable", [True, False])
        maybe(quantization, "algorithm", ["awq", "fp8"])
        maybe(quantization, "groupSize", [32, 64])
    inference: dict[str, Any] = {}
    maybe(inference, "min_tokens_to_generate", [0, 256, 257, 300])
    maybe(inference, "tokens_to_generate", [1, 256, 299, 300])
    maybe(inference, "splice_single_frame", ["first", "last"])
    maybe(inference, "num_frames", [1, 2, 8])
    maybe(inference, "all_probs", [True, False])
    maybe(inference, "compute_logprob", [True, False])
    maybe(inference, "media_base_path", ["s3://eval/a/", "s3://eval/b/"])
    maybe(inference, "media_type", ["video", "image"])
    given_input: dict[str, Any] = {}
    maybe(given_input, "mediaBasePath", ["s3://eval/a/", "s3://eval/b/"])
    maybe(given_input, "mediaType", ["video", "image"])
    spec: dict[str, Any] = {"model": model, "input": given_input}
    if draw(st.booleans()):
        spec["inference"] = inference
    if draw(st.booleans()):
        spec["workers"] = {}
        maybe(spec["workers"], "gpusPerWorker", [0, 1, 2, 4, 8])
    return spec


def model_fields_blamed(kind: type, resource: dict[str, Any]) -> set[str]:
    """Paths that the pydantic model complains about."""
    try:
        kind.model_validate(resource)
    except ValidationError as error:
        return {".".join(map(str, item["loc"])) for item in error.errors()}
    return set()


@given(job_parts())
def test_model_and_definition_agree_on_jobs(spec: dict[str, Any]) -> None:
    job = copy.deepcopy(JOB)
    spec["input"]["prompts"] = "s3://eval/p.jsonl"
    job["spec"] = {**spec, "output": {"uri": "s3://eval/o/"}}
    assert {field for field, _ in causes(job)} == model_fields_blamed(VideoNevaJob, job)


@given(job_parts(), st.sampled_from(["s3://eval/inbox/x/", "s3://eval/out/"]))
def test_model_and_definition_agree_on_folders(spec: dict[str, Any], output: str) -> None:
    folder = changed(FOLDER, "spec.template.spec", spec)
    folder["spec"]["outputBase"] = output
    assert {field for field, _ in causes(folder)} == model_fields_blamed(DropFolder, folder)
