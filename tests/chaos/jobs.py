"""The job that is run again and again, and what an undisturbed run of it answers."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.clips import write_clips
from tests.chaos import variables
from tests.support.jobs import JobFolder

REPOSITORY = Path(__file__).parents[2]
_ATTEMPT = re.compile(rb',"attempt":\d+')


@dataclass(frozen=True, slots=True)
class Answers:
    """What a run ended with, without what is a run's own: `attempt`, and where it lies."""

    outputs: tuple[bytes, ...]
    errors: tuple[bytes, ...]

    @property
    def ids(self) -> list[Any]:
        return [json.loads(line)["question_id"] for line in (*self.outputs, *self.errors)]


@dataclass(frozen=True, slots=True)
class JobKind:
    """What all runs that must answer alike have in common.

    Attributes:
        media: folder of clips and prompts, see `write_media`.
        row_s: seconds the stub takes for a row; None: the demo model answers.
    """

    media: Path
    row_s: float | None
    tensor_parallel_size: int = 1
    max_rows: int = 6

    def make(self, folder: Path, bucket: str | None, settings: dict[str, str]) -> JobFolder:
        """The job in a new folder, or in a bucket."""
        for name in ("t", "shm"):
            (folder / name).mkdir(parents=True)
        environment = {
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONFAULTHANDLER": "1",
            "TMPDIR": str(folder / "t"),
            variables.MARK: str(folder),
            variables.SHARED_MEMORY: str(folder / "shm"),
            variables.COMPUTED: str(folder / "computed"),
            **settings,
        }
        if self.row_s is not None:
            environment[variables.ROW_SECONDS] = str(self.row_s)
        job = JobFolder(
            folder,
            tensor_parallel_size=self.tensor_parallel_size,
            max_rows=self.max_rows,
            bucket=bucket,
            environment=environment,
            command=(sys.executable, "-m", "tests.chaos.neva"),
            # A blow from outside is no row's fault: none may be given up for it.
            spec={"failure": {"maxAttempts": 100, "failOnError": False}},
        )
        shutil.copytree(self.media / "videos", job.videos)
        shutil.copy(self.media / "prompts.jsonl", job.folder)
        if bucket is not None:
            job.upload()
        job.write_job()
        return job


def write_media(folder: Path, num_clips: int, questions_per_clip: int) -> Path:
    """Clips with prompts over them, a file that is no video, and a line without a file."""
    write_clips(folder, num_clips=num_clips, seed=11)
    asked = [json.loads(line) for line in (folder / "prompts.jsonl").read_bytes().splitlines()]
    asked = [
        {**prompt, "question_id": f"{prompt['question_id']}.{again}"}
        for prompt in asked
        for again in range(-(-questions_per_clip // 3))
    ]
    (folder / "videos" / "broken.mp4").write_bytes(b"no video" * 100)
    asked.insert(len(asked) // 2, {**asked[0], "question_id": "broken", "video": "broken.mp4"})
    asked.insert(5, {**asked[0], "question_id": "gone", "video": "gone.mp4"})
    lines = [json.dumps(prompt) + "\n" for prompt in asked]
    (folder / "prompts.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def read_answers(job: JobFolder) -> Answers:
    """What the finished run says."""
    base = job.bucket or str(job.folder)
    errors = job.output.get("errors.jsonl").replace(base.encode(), b"BASE")
    return Answers(
        tuple(_ATTEMPT.sub(b"", line) for line in job.output.get("outputs.jsonl").splitlines()),
        tuple(line.replace(b"file://BASE", b"BASE") for line in errors.splitlines()),
    )


def differences(got: Answers, expected: Answers) -> tuple[int, int, int]:
    """(lost, doubled, otherwise different) rows."""
    ids, wanted = got.ids, expected.ids
    num_lost = len(set(wanted) - set(ids))
    num_doubled = len(ids) - len(set(ids))
    num_other = sum(
        1 for ours, theirs in _pairs(got.outputs, expected.outputs) if ours != theirs
    ) + sum(1 for ours, theirs in _pairs(got.errors, expected.errors) if ours != theirs)
    return num_lost, num_doubled, num_other


def _pairs(
    ours: Sequence[bytes], theirs: Sequence[bytes]
) -> list[tuple[bytes | None, bytes | None]]:
    length = max(len(ours), len(theirs))
    pad: list[bytes | None] = [None] * length
    return list(zip([*ours, *pad][:length], [*theirs, *pad][:length], strict=True))
