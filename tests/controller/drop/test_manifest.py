"""A drop and its folder's template become a job."""

from __future__ import annotations

from typing import Any

import pytest

from controller.drop.manifest import LABEL_FOLDER, drop_of, job_of
from controller.drop.scan import Drop
from neva.job_file import JobFileError, parse_job

FILE = Drop("inbox-a-0123", "a.jsonl", "e1", None, "", 0.0, None)
FOLDER = Drop("inbox-x-0123", "x/prompts.jsonl", "e1", ("x/_READY", "e2"), "", 0.0, None)


def spec(**template: Any) -> dict[str, Any]:
    return {
        "uri": "s3://eval/in/",
        "outputBase": "s3://eval/out/",
        "template": {"spec": {"model": {"uri": "s3://models/m/"}, **template}},
    }


def test_prompts_and_output_come_from_the_drop() -> None:
    body = job_of(FILE, "inbox", "ns", spec(input={"mediaBasePath": "s3://eval/videos/"}))
    job = parse_job(body, "job").spec
    assert body["metadata"]["name"] == FILE.name
    assert body["metadata"]["namespace"] == "ns"
    assert job.input.prompts == "s3://eval/in/a.jsonl"
    assert job.input.media_base_path == "s3://eval/videos/"
    assert job.output.uri == "s3://eval/out/inbox-a-0123/"


def test_a_folders_media_lie_in_the_folder_whatever_the_template_says() -> None:
    given = spec(
        input={"mediaBasePath": "s3://eval/v/"}, inference={"media_base_path": "s3://eval/v/"}
    )
    job = parse_job(job_of(FOLDER, "inbox", "ns", given), "job").spec
    assert job.input.prompts == "s3://eval/in/x/prompts.jsonl"
    assert job.media_base_path == "s3://eval/in/x/"


def test_a_files_media_lie_beside_it_when_nothing_is_said() -> None:
    assert parse_job(job_of(FILE, "i", "ns", spec()), "").spec.media_base_path == "s3://eval/in/"
    guides = spec(inference={"media_base_path": "s3://eval/v/"})
    assert parse_job(job_of(FILE, "i", "ns", guides), "").spec.media_base_path == "s3://eval/v/"


def test_labels_and_annotations_of_the_template_are_kept() -> None:
    given = spec()
    given["template"]["metadata"] = {"labels": {"team": "k"}, "annotations": {"why": "w"}}
    metadata = job_of(FILE, "inbox", "ns", given)["metadata"]
    assert metadata["labels"] == {"team": "k", LABEL_FOLDER: "inbox"}
    assert metadata["annotations"]["why"] == "w"


@pytest.mark.parametrize("drop", [FILE, FOLDER])
def test_the_job_remembers_its_drop(drop: Drop) -> None:
    found = drop_of(job_of(drop, "inbox", "ns", spec()))
    assert found == drop


def test_a_job_of_nobodys_drop_has_none() -> None:
    assert drop_of({"metadata": {"name": "a"}}) is None


def test_a_template_that_makes_no_job_is_told() -> None:
    with pytest.raises(JobFileError) as caught:
        job_of(FILE, "inbox", "ns", spec(workers={"gpusPerWorker": 3}))
    assert "gpusPerWorker" in caught.value.message


def test_the_template_is_not_changed() -> None:
    given = spec(inference={"media_base_path": "s3://eval/v/"})
    before = repr(given)
    job_of(FOLDER, "inbox", "ns", given)
    assert repr(given) == before
