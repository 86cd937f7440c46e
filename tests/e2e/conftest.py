"""Clips for the end-to-end tests, made once a session."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from demo.clips import write_clips
from tests.support.jobs import JobFolder


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's 24 clips with 72 questions."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, num_clips=24, seed=11)
    return folder


@pytest.fixture
def make_job(tmp_path: Path, clips: Path) -> Callable[..., JobFolder]:
    """A job over the first `num_clips` clips, in a folder of its own."""

    def make(num_clips: int = 24, **options: Any) -> JobFolder:
        job = JobFolder(tmp_path, **options)
        job.videos.mkdir()
        names = [f"clip-{number:03d}.mp4" for number in range(num_clips)]
        for name in names:
            shutil.copy(clips / "videos" / name, job.videos / name)
        asked = [json.loads(line) for line in (clips / "prompts.jsonl").read_bytes().splitlines()]
        job.write_prompts([prompt for prompt in asked if prompt["video"] in names])
        if job.bucket is not None:
            job.upload()
        job.write_job()
        return job

    return make


@pytest.fixture(scope="session")
def truth(clips: Path) -> dict[int, str]:
    rows = [json.loads(line) for line in (clips / "truth.jsonl").read_bytes().splitlines()]
    return {row["question_id"]: row["answer"] for row in rows}
