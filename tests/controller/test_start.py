"""Validation and split of whole jobs, with the demo's model; nothing answers them here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.start import Refused, check_same_run, start_run
from neva.errors import ConfigError
from neva.job_file import parse_job
from neva.ledger import Ledger, Manifest, layout
from neva.reasons import Reason
from neva.spec import VideoNevaJob
from neva.store import open_store
from tests.support.jobs import DEMO_MODEL


def job(folder: Path, **changes: dict[str, Any]) -> VideoNevaJob:
    spec: dict[str, dict[str, Any]] = {
        "model": {"uri": str(DEMO_MODEL)},
        "input": {"prompts": f"{folder}/prompts.jsonl", "mediaBasePath": f"{folder}/videos"},
        "inference": {"tokens_to_generate": 16},
        "output": {"uri": f"{folder}/out"},
    }
    for block, values in changes.items():
        spec[block] = {**spec.get(block, {}), **values}
    whole = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "test"},
        "spec": spec,
    }
    return parse_job(whole, "test")


class Start:
    """Starts jobs in one folder and keeps what was rejected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(open_store(str(folder / "out")))
        self.rejected: list[dict[str, Any]] = []

    def __call__(self, spec: VideoNevaJob) -> Manifest | Refused:
        def keep(num_rejected: int, errors: Iterator[dict[str, Any]]) -> None:
            self.rejected = list(errors)
            assert len(self.rejected) == num_rejected

        return start_run(spec, self.ledger, keep)

    def write(self, rows: list[dict[str, Any]], name: str = "prompts.jsonl") -> None:
        lines = [json.dumps(row) for row in rows]
        array = name.endswith(".json")
        text = f"[{','.join(lines)}]" if array else "\n".join(lines)
        (self.folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def start(tmp_path: Path) -> Start:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").touch()
    start = Start(tmp_path)
    start.write([{"video": "a.mp4", "text": "?", "question_id": n} for n in range(3)])
    return start


def test_a_good_job_is_split_and_the_manifest_holds_the_whole_job(start: Start) -> None:
    spec = job(start.folder)
    manifest = start(spec)
    assert isinstance(manifest, Manifest)
    assert VideoNevaJob.model_validate(manifest.job) == spec
    assert start.ledger.read_manifest() == manifest


@given(insert=st.sampled_from(["left", "right", None]), seed=st.integers(0, 9), judge=st.booleans())
def test_a_job_survives_its_manifest(insert: str | None, seed: int, judge: bool) -> None:
    """The worker must read the very job that was validated, nulls included."""
    changes: dict[str, Any] = {"inference": {"insert_media_token": insert, "seed": seed}}
    if judge:
        changes["judge"] = {"against": ["/a.jsonl"]}
    spec = job(Path("/x"), **changes)
    dumped = json.loads(json.dumps(spec.model_dump(mode="json", by_alias=True)))
    assert VideoNevaJob.model_validate(dumped) == spec


def test_bad_media_names_are_rejected_beside_missing_ones(start: Start, tmp_path: Path) -> None:
    outside = tmp_path / "outside.mp4"
    outside.touch()
    (start.folder / "videos" / "link.mp4").symlink_to(outside)
    (start.folder / "videos" / "round").symlink_to("round")
    names = ["a.mp4", "lost.mp4", "link.mp4", "round", "round/a.mp4"]
    start.write([{"video": v, "text": "?", "question_id": n} for n, v in enumerate(names)])
    start(job(start.folder, failure={"failOnError": False}))
    reasons = [(error["question_id"], error["reason"]) for error in start.rejected]
    assert reasons == [
        (1, "MediaNotFound"),
        (2, "StoreDenied"),
        (3, "MediaNotFound"),
        (4, "MediaNotFound"),
    ]


def test_bad_rows_of_an_array_on_one_line_are_told_apart(start: Start) -> None:
    rows = [{"video": "a.mp4", "text": "?"}, {"text": "?", "question_id": 1}]
    start.write([*rows, {"video": "a.mp4", "text": "?", "question_id": 2}], "prompts.json")
    spec = job(
        start.folder,
        input={"prompts": f"{start.folder}/prompts.json"},
        failure={"failOnError": False},
    )
    manifest = start(spec)
    assert isinstance(manifest, Manifest)
    assert (manifest.num_rows, manifest.num_rejected) == (3, 2)
    rejected = start.ledger.store.get(layout.rejected(manifest.rejected_sha256)).splitlines()
    assert [json.loads(line)["seq"] for line in rejected] == [0, 1]


def test_beyond_the_threshold_nothing_is_started(start: Start) -> None:
    start.write([{"video": "a.mp4", "text": "?"}])
    assert start(job(start.folder)) == Refused(1, 1)
    assert start.ledger.read_manifest() is None
    (error,) = start.ledger.store.get(layout.ERRORS).splitlines()
    assert json.loads(error)["reason"] == "MissingQuestionId"


def test_a_job_whose_rows_are_all_bad_has_no_shards_where_that_is_tolerated(start: Start) -> None:
    start.write([{"video": "lost.mp4", "text": "?", "question_id": n} for n in range(3)])
    manifest = start(job(start.folder, failure={"failOnError": False}))
    assert isinstance(manifest, Manifest)
    assert (manifest.num_rejected, manifest.shards) == (3, [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"input": {"prompts": "/no/such.jsonl"}}, "/no/such.jsonl does not exist"),
        ({"judge": {"against": ["/no/ref.jsonl"]}}, "/no/ref.jsonl does not exist"),
        ({"judge": {"against": ["/no/r.jsonl"], "context": "/no/c.jsonl"}}, "c.jsonl does not"),
        ({"model": {"uri": "/no/model"}}, "no model there"),
        ({"inference": {"num_frames": 64, "tokens_to_generate": 16}}, "lower inference.num_frames"),
    ],
)
def test_a_job_that_can_not_work_is_refused_as_wrong(
    start: Start, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        start(job(start.folder, **changes))
    assert start.ledger.read_manifest() is None


def test_an_empty_prompts_file_is_refused(start: Start) -> None:
    start.write([])
    with pytest.raises(ConfigError, match="no prompts in it"):
        start(job(start.folder))


def test_a_run_goes_on_only_with_the_same_answers_in_mind(start: Start) -> None:
    manifest = start(job(start.folder))
    assert isinstance(manifest, Manifest)
    harmless = job(start.folder, workers={"replicas": 5}, failure={"failOnError": 0.5})
    check_same_run(harmless, start.ledger, manifest)
    other = job(start.folder, inference={"seed": 1, "tokens_to_generate": 16})
    with pytest.raises(ConfigError, match="another model, input or inference"):
        check_same_run(other, start.ledger, manifest)
    start.write([{"video": "a.mp4", "text": "other", "question_id": 0}])
    with pytest.raises(ConfigError, match=r"prompts\.jsonl was changed") as caught:
        check_same_run(job(start.folder), start.ledger, manifest)
    assert caught.value.reason == Reason.OUTPUT_IN_USE


def test_a_second_job_that_loses_the_race_for_the_output_is_told(start: Start) -> None:
    start(job(start.folder))
    with pytest.raises(ConfigError, match=r"output\.uri of its own"):
        start(job(start.folder, inference={"seed": 1, "tokens_to_generate": 16}))
