"""Names of everything under a run's output prefix. The only place that spells them.

manifest.json                            written once: the plan and digests of all shards
calibration.safetensors                  written once: what a quantized model is rounded by
progress.json                            a hint that spares reads: `neva.ledger.snapshot`
control/                                 orders, and who runs it: `neva.ledger.control`
inputs/00003-5b1c0f….jsonl               the rows of many shards, one shard behind the other
inputs/rejected-9a40d2….jsonl            rows refused before any worker started
shards/00012/attempts/3/claim.json       written once; the attempt number fences later writes
shards/00012/attempts/3/part-0001.jsonl
shards/00012/attempts/3/release.json     the attempt ended in order, and why
shards/00012/commit.json                 written once; the shard is done when this exists
timings/<process>.json                   where the workers' time went: `neva.timings`
frames/<digest>.jpg                      the frames the model saw, for the report
partial.jsonl                            the answers of a cancelled run, which has no outputs.jsonl
retried.jsonl                            a retry's own answers, which its outputs.jsonl holds, too
retries/1/                               a retry, which is a run of its own
outputs.jsonl errors.jsonl summary.json judge/ report.html _SUCCESS
"""

from __future__ import annotations

import hashlib
import re

MANIFEST = "manifest.json"
CALIBRATION = "calibration.safetensors"
PROGRESS = "progress.json"
OUTPUTS = "outputs.jsonl"
ERRORS = "errors.jsonl"
PARTIAL = "partial.jsonl"
RETRIED = "retried.jsonl"
RETRIES = "retries/"
SUMMARY = "summary.json"
SCORES = "judge/scores.json"
REPORT = "report.html"
SUCCESS = "_SUCCESS"
SHARDS = "shards/"
TIMINGS = "timings/"
INPUTS = "inputs/"

NUM_SHARDS_IN_ORDER = 100_000
"""Of so many shards the keys have the order of their numbers."""

_COMMIT = re.compile(r"shards/(\d+)/commit\.json")
_RETRY = re.compile(r"retries/(\d+)/job\.json")
_ATTEMPT = re.compile(r"shards/(\d+)/attempts/(\d+)/(.+)")


def shard(number: int) -> str:
    return f"{SHARDS}{number:05d}/"


def pack(number: int, digest: str) -> str:
    """Names a file of inputs by what it holds: who divides the same job otherwise, because a media
    has gone meanwhile, writes others, and the manifest says whose hold."""
    return f"{number:05d}-{digest[:12]}"


def inputs(pack: str) -> str:
    return f"{INPUTS}{pack}.jsonl"


def rejected(sha256: str) -> str:
    return f"{INPUTS}rejected-{sha256}.jsonl"


def commit(number: int) -> str:
    return f"{shard(number)}commit.json"


def attempt(number: int, attempt_number: int) -> str:
    return f"{shard(number)}attempts/{attempt_number}/"


def claim(number: int, attempt_number: int) -> str:
    return f"{attempt(number, attempt_number)}claim.json"


def release(number: int, attempt_number: int) -> str:
    return f"{attempt(number, attempt_number)}release.json"


def part(number: int, attempt_number: int, part_number: int) -> str:
    return f"{attempt(number, attempt_number)}part-{part_number:04d}.jsonl"


def frames(media_name: str) -> str:
    digest = hashlib.sha256(media_name.encode()).hexdigest()
    return f"frames/{digest[:16]}.jpg"


def retry(number: int) -> str:
    """Where a retry of the run writes, relative to the run."""
    return f"{RETRIES}{number}/"


def retry_job(number: int) -> str:
    """Written once: who writes it first says what the retry of this number is."""
    return f"{retry(number)}job.json"


def retry_number(key: str) -> int | None:
    """The retry whose job `key` is, if it is one."""
    match = _RETRY.fullmatch(key)
    return int(match[1]) if match else None


def committed_shard(key: str) -> int | None:
    """The shard whose commit `key` is, if it is one."""
    match = _COMMIT.fullmatch(key)
    return int(match[1]) if match else None


def attempt_file(key: str) -> tuple[int, int, str] | None:
    """(shard, attempt, file name) of a key inside an attempt."""
    match = _ATTEMPT.fullmatch(key)
    return (int(match[1]), int(match[2]), match[3]) if match else None
