"""Bad rows and missing media: all named in one run, before any worker starts."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.jobs import JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GOOD = [
    {"video": f"clip-{n % 4:03d}.mp4", "text": f"Which shape moves? {n}", "question_id": n}
    for n in range(60)
]
BAD: list[tuple[bytes, str]] = [
    (b'{"video": "clip-000.mp4", "text": "x"', "InvalidJson"),
    (b'["clip-000.mp4", "x", 101]', "NotAnObject"),
    (b'{"video": "clip-000.mp4", "question_id": 102}', "MissingText"),
    (b'{"video": "clip-000.mp4", "text": "x"}', "MissingQuestionId"),
    (b'{"video": "clip-000.mp4", "text": "x", "question_id": 3}', "DuplicateQuestionId"),
    (b'{"video": "clip-000.mp4", "text": "x", "question_id": true}', "InvalidQuestionId"),
    (b'{"image": "clip-000.jpg", "text": "x", "question_id": 106}', "WrongMediaKey"),
    (b'{"text": "x", "question_id": 107}', "MissingMediaKey"),
    (b'{"video": "../clip-000.mp4", "text": "x", "question_id": 108}', "InvalidMediaName"),
    (b'{"video": "clip-000.mp4", "text": "\xff", "question_id": 109}', "InvalidEncoding"),
    (
        b'{"video": "clip-000.mp4", "text": "<video> x", "question_id": 110}',
        "MediaTokenConflict",
    ),
    (
        b'{"video": "clip-000.mp4", "text": "' + b"why " * 900 + b'", "question_id": 111}',
        "ContextOverflow",
    ),
    (b'{"video": "lost.mp4", "text": "x", "question_id": 112}', "MediaNotFound"),
]


def with_bad_rows(job: JobFolder) -> JobFolder:
    """Good rows between the bad ones, and a blank line, which is no row."""
    lines: list[bytes] = [json.dumps(row).encode() for row in GOOD]
    for position, (line, _) in enumerate(BAD):
        lines.insert(3 * position + 1, line)
    lines.insert(0, b"")
    job.write_prompts(lines)
    return job


def test_all_are_named_before_anything_starts_and_the_job_is_refused(
    make_job: Callable[..., JobFolder],
) -> None:
    job = with_bad_rows(make_job(num_clips=4))
    code, printed = job.run()
    assert code == 3
    for _, reason in BAD:
        assert f": {reason}: " in printed
    assert f"{len(BAD)} of {len(GOOD) + len(BAD)} rows are bad" in printed
    errors = job.lines("errors.jsonl")
    assert [error["reason"] for error in errors] == [reason for _, reason in BAD]
    assert [error["line"] for error in errors] == [3 * n + 3 for n in range(len(BAD))]
    # The run itself does not exist: nothing was split, no worker was started.
    assert not (job.folder / "out" / "manifest.json").exists()
    assert not (job.folder / "cache" / "runs").exists()


def test_with_a_threshold_the_good_rows_are_answered_from_a_bucket(
    make_job: Callable[..., JobFolder], bucket_uri: str
) -> None:
    spec = {"failure": {"failOnError": 0.2}}
    job = with_bad_rows(make_job(num_clips=4, bucket=bucket_uri.rstrip("/"), spec=spec))
    job.upload()
    code, printed = job.run()
    assert code == 0, printed
    answered = [row["question_id"] for row in job.lines("outputs.jsonl")]
    assert answered == [row["question_id"] for row in GOOD]
    errors = job.lines("errors.jsonl")
    assert [error["reason"] for error in errors] == [reason for _, reason in BAD]
    assert errors[2]["record"] == {"video": "clip-000.mp4", "question_id": 102}
    summary = json.loads(job.output.get("summary.json"))
    assert (summary["rows"], summary["answered"], summary["failed"]) == (73, 60, 13)
    assert sum(summary["failed_by_reason"].values()) == 13
    assert "60 of 73 rows answered, 13 failed" in printed
    # Another job must not touch this one's output.
    job.inference["seed"] = 5
    job.write_job()
    code, printed = job.run()
    assert code == 2
    assert "OutputInUse" in printed


def test_rows_that_fail_while_answering_beyond_the_threshold_are_exit_code_3(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=4)
    (job.videos / "clip-001.mp4").write_bytes(b"no video at all")
    code, printed = job.run()
    assert code == 3, printed
    assert len(job.lines("outputs.jsonl")) == 9
    assert [error["reason"] for error in job.lines("errors.jsonl")] == ["MediaUnreadable"] * 3
    assert not (job.folder / "out" / "_SUCCESS").exists()
    code, printed = job.run()
    assert code == 3
    assert "is finished; nothing was changed" in printed


def test_a_bad_job_file_is_exit_code_2_with_all_problems(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=1, inference={"top_p": 3, "topk": 1})
    code, printed = job.run()
    assert code == 2
    assert "spec.inference.top_p" in printed
    assert "did you mean top_k?" in printed


def test_media_that_can_never_fit_is_refused_before_anything_starts(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=1, inference={"num_frames": 64})
    code, printed = job.run()
    assert code == 2
    assert "lower inference.num_frames" in printed
