"""What a job says to a cluster, drop folders, and the status models."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from neva.conditions import ConditionReason, ConditionType, FolderCondition, Phase
from neva.drop_folder import DropFolder
from neva.job_file import JobFileError, parse_job
from neva.spec import VideoNevaJob
from neva.status import REASON_PATTERN, DropFolderStatus, VideoNevaJobStatus
from tests.controller.crd.specs import FOLDER, JOB, changed


def test_what_only_a_cluster_heeds_is_named() -> None:
    spec = parse_job(JOB, "job.yaml").spec
    assert spec.cluster_fields() == [
        "workers.replicas",
        "workers.nodeSelector",
        "workers.tolerations",
        "workers.affinity",
        "workers.resources",
        "workers.podTemplate",
        "storage",
        "activeDeadlineSeconds",
    ]
    local: dict[str, Any] = changed(JOB, "spec.workers", {"gpusPerWorker": 0})
    for name in ("storage", "activeDeadlineSeconds"):
        del local["spec"][name]
    assert parse_job(local, "job.yaml").spec.cluster_fields() == []


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("spec.workers.shmSize", "8 GB", "spec.workers.shmSize: "),
        ("spec.workers.resources", {"limits": {"cpu": "-1"}}, "spec.workers.resources.limits.cpu"),
        ("spec.workers.tolerations", [{"operator": "In"}], "spec.workers.tolerations.0.operator"),
        ("spec.workers.queue_name", "q", "; did you mean queueName?"),
        ("spec.storage", {"secret": "x"}, "spec.storage.secretName: missing"),
        ("spec.activeDeadlineSeconds", 0, "spec.activeDeadlineSeconds: "),
        ("spec.model.uri", "s3://models/" + "x" * 2048, "spec.model.uri: "),
    ],
)
def test_a_wrong_cluster_field_is_named_with_its_path(
    path: str, value: object, problem: str
) -> None:
    with pytest.raises(JobFileError) as caught:
        parse_job(changed(JOB, path, value), "job.yaml")
    assert any(problem in found for found in caught.value.problems)


def test_a_quantity_may_be_written_as_a_number() -> None:
    resources = parse_job(JOB, "job.yaml").spec.workers.resources
    assert resources.requests == {"cpu": "8", "memory": "64Gi"}


def test_a_job_survives_the_round_trip_through_a_pods_environment() -> None:
    job = parse_job(JOB, "job.yaml")
    text = job.model_dump_json(by_alias=True, exclude_none=True)
    again = VideoNevaJob.model_validate_json(text)
    # null means something here, and is the one thing that leaving out nulls loses.
    assert again.spec.inference.insert_media_token == "left"
    assert VideoNevaJob.model_validate_json(job.model_dump_json(by_alias=True)) == job


def test_a_drop_folder_has_defaults_and_its_template_needs_no_prompts() -> None:
    folder = DropFolder.model_validate(FOLDER)
    assert (folder.spec.poll_seconds, folder.spec.settle_seconds) == (30, 60)
    assert (folder.spec.marker, folder.spec.concurrency) == ("_READY", 4)
    assert folder.spec.done.action == "tag"
    assert folder.spec.template.spec.input.media_base_path is None


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.uri", "s3://eval/inbox", "uri"),
        ("spec.uri", "/local/inbox/", "uri"),
        ("spec.outputBase", "s3://eval/inbox/runs/", "outputBase"),
        ("spec.template.spec.output", {"uri": "s3://eval/x/"}, "output"),
        ("spec.template.spec.input", {"prompts": "s3://eval/x"}, "prompts"),
    ],
)
def test_a_wrong_drop_folder_is_refused(path: str, value: object, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DropFolder.model_validate(changed(FOLDER, path, value))
    assert field in [str(error["loc"][-1]) for error in caught.value.errors()]


def test_a_status_is_written_in_the_words_of_kubernetes() -> None:
    status = VideoNevaJobStatus.model_validate(
        {
            "phase": "Running",
            "rows": {"total": 9, "done": 3},
            "conditions": [
                {
                    "type": ConditionType.RUNNING,
                    "status": "True",
                    "reason": ConditionReason.ANSWERING,
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }
            ],
        }
    )
    written = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert written["rows"] == {"total": 9, "done": 3, "failed": 0}
    assert written["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    with pytest.raises(ValidationError):
        VideoNevaJobStatus.model_validate({"phase": "Done"})
    with pytest.raises(ValidationError):
        DropFolderStatus.model_validate({"jobs": {"active": -1}})


def test_every_reason_and_type_is_one_word_that_conditions_may_hold() -> None:
    for words in (ConditionReason, ConditionType, FolderCondition, Phase):
        for word in words:
            assert word.value.isalpha() and word.value[0].isupper()
    assert REASON_PATTERN.startswith("^[A-Za-z]")
    assert [phase for phase in Phase if phase.is_final] == [Phase.SUCCEEDED, Phase.FAILED]
