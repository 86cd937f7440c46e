"""Whole jobs over every kind of file, good and damaged: one answer or one reason each.

The files and what must become of each are in `tests/worker/media/footage.py`.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from neva.frames import frame_indices
from tests.chart.rendering import REPOSITORY
from tests.e2e.test_kills import pixel_folders, wait_until
from tests.support.jobs import JobFolder
from tests.support.processes import Process, descendants, is_running
from tests.worker.media.footage import (
    BAD_IMAGES,
    BAD_VIDEOS,
    GOOD_IMAGES,
    GOOD_VIDEOS,
    Footage,
    write_all,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NUM_ROWS = 1000
NUM_FRAMES = 8


def check(job: JobFolder, kinds: dict[str, Footage], num_frames: int | None) -> None:
    """Every row is answered with the right frames, or failed for the right reason."""
    key = "video" if num_frames else "image"
    for row in job.lines("outputs.jsonl"):
        kind = kinds[row[key]]
        assert kind.num_frames is not None, f"{kind.name} was answered"
        expected = frame_indices(kind.num_frames, num_frames) if num_frames else (0,)
        assert row["frames"] == list(expected), kind.name
        assert row["decoder"] in ({"decord", "pyav"} if num_frames else {"pillow"})
    for error in job.lines("errors.jsonl"):
        kind = kinds[error["record"][key]]
        assert error["reason"] == kind.reason, (kind.name, error)
        assert str(job.folder) not in error["message"]


def gone(processes: list[Process]) -> bool:
    return not any(is_running(process.pid) for process in processes)


def told_to_read(log: Path) -> list[str]:
    """What the guide's command finds in a worker's log."""
    page = (REPOSITORY / "docs" / "how-to" / "observing.md").read_text(encoding="utf-8")
    logs, found, filters = page.partition("## Logs")[2].partition("```sh\nkubectl logs ")
    assert found, logs
    filters = filters.partition("\n```")[0].partition(" |\n")[2]
    command = ["bash", "-c", f"cat '{log}' | {filters}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_thousand_rows_about_videos_of_every_kind(tmp_path: Path) -> None:
    kinds = {kind.name: kind for kind in (*GOOD_VIDEOS, *BAD_VIDEOS)}
    job = JobFolder(
        tmp_path,
        max_rows=64,
        inference={"tokens_to_generate": 2},
        spec={"failure": {"failOnError": False}},
    )
    job.videos.mkdir()
    write_all(job.videos, (*GOOD_VIDEOS, *BAD_VIDEOS))
    names = list(kinds)
    job.write_prompts(
        {"video": names[number % len(names)], "text": f"What is {number}?", "question_id": number}
        for number in range(NUM_ROWS)
    )
    job.write_job()
    process = job.start()
    wait_until(lambda: pixel_folders(process.pid), process)
    folders = pixel_folders(process.pid)
    below = descendants(process.pid)
    printed, _ = process.communicate(timeout=500)
    assert process.returncode == 0, printed
    ids = [
        row["question_id"] for name in ("outputs.jsonl", "errors.jsonl") for row in job.lines(name)
    ]
    assert sorted(ids) == list(range(NUM_ROWS)), "each row once"
    check(job, kinds, NUM_FRAMES)
    assert len(job.lines("errors.jsonl")) == sum(
        kinds[names[number % len(names)]].reason is not None for number in range(NUM_ROWS)
    )
    (log,) = job.folder.glob("cache/runs/*/worker.log")
    found = [json.loads(line) for line in told_to_read(log)]
    assert {line["row"] for line in found} == {
        str(error["question_id"]) for error in job.lines("errors.jsonl")
    }
    assert all(line.keys() >= {"job", "run", "shard", "attempt", "reason"} for line in found)
    # A bad file costs no attempt of its shard.
    assert {row["attempt"] for row in job.lines("outputs.jsonl")} == {1}
    assert "Where the time went: engine" in printed
    assert gone(below)
    assert not any(folder.exists() for folder in folders), "shared memory is given back"
    assert list(tmp_path.glob("s/*")) == [], "no scratch files are left"


def test_a_job_about_images_in_a_tar_that_is_killed_and_run_again(tmp_path: Path) -> None:
    kinds = {kind.name: kind for kind in (*GOOD_IMAGES, *BAD_IMAGES)}
    write_all(tmp_path / "images", (*GOOD_IMAGES, *BAD_IMAGES))
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        for name in kinds:
            tar.add(tmp_path / "images" / name, f"./{name}")
    job = JobFolder(
        tmp_path,
        inference={"tokens_to_generate": 2},
        spec={
            "failure": {"failOnError": False},
            "input": {
                "prompts": "prompts.jsonl",
                "mediaBasePath": "images.tar",
                "mediaType": "image",
            },
        },
        environment={"NEVA_FLUSH_ROWS": "1", "NEVA_LEASE_TTL_S": "3", "NEVA_ROWS_IN_FLIGHT": "1"},
    )
    job.write_prompts(
        {"image": name, "text": f"What is {turn}?", "question_id": f"{name} {turn}"}
        for name in kinds
        for turn in range(3)
    )
    job.write_job()
    process = job.start()
    wait_until(lambda: any("/part-" in item.key for item in job.output.list("shards/")), process)
    below, folders = descendants(process.pid), pixel_folders(process.pid)
    assert any("worker.media.decoder_main" in process.command for process in below)
    process.kill()
    process.communicate()
    deadline_s = time.monotonic() + 10
    while not gone(below):
        assert time.monotonic() < deadline_s, "processes outlive the runner"
        time.sleep(0.02)
    code, printed = job.run(timeout_s=300)
    assert code == 0, printed
    num_answered, num_failed = len(job.lines("outputs.jsonl")), len(job.lines("errors.jsonl"))
    assert (num_answered, num_failed) == (3 * len(GOOD_IMAGES), 3 * len(BAD_IMAGES))
    check(job, kinds, None)
    assert not any(folder.exists() for folder in folders), "shared memory is given back"
    assert list(tmp_path.glob("s/*")) == [], "no scratch files are left"
