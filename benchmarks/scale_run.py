"""A large run made up: prompts, media that are empty files, and answers that nobody computed."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from unittest import mock

import orjson

from neva.job_file import parse_job
from neva.ledger import Claim, FinishedRow, Ledger, Manifest, ShardPlan, ShardRow
from neva.spec import VideoNevaJob

ROWS_PER_MEDIA: Final = 10
_DEMO_MODEL: Final = Path(__file__).parent.parent / "demo" / "model"
_FOLDERS: Final = 997
_ROWS_PER_PART: Final = 16  # as a worker flushes them
_WRITERS: Final = 8
_TEXT: Final = (
    "what colour moving object left right corner scene person does the how many times before after "
    "car red blue square circle slowly quickly toward camera background foreground frame end start"
)
_WORDS: Final = _TEXT.split()


def make_job(folder: Path, output: str) -> VideoNevaJob:
    return parse_job(
        {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": "scale"},
            "spec": {
                "model": {"uri": str(_DEMO_MODEL)},
                "input": {
                    "prompts": str(folder / "prompts.jsonl"),
                    "mediaBasePath": str(folder / "videos"),
                },
                "inference": {"tokens_to_generate": 24},
                "output": {"uri": output},
            },
        },
        "scale",
    )


def write_input(folder: Path, num_rows: int) -> None:
    """Prompts in no order of their media, and the media."""
    rng = random.Random(1)
    num_media = max(1, num_rows // ROWS_PER_MEDIA)
    with (folder / "prompts.jsonl").open("wb") as file:
        for number in range(num_rows):
            record = {
                "question_id": number,
                "video": _media_name(rng.randrange(num_media)),
                "text": f"{' '.join(rng.choices(_WORDS, k=14)).capitalize()}?",
                "category": "conv",
            }
            file.write(orjson.dumps(record) + b"\n")
    for number in range(num_media):
        path = folder / "videos" / _media_name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _media_name(number: int) -> str:
    return f"clips/{number % _FOLDERS:03d}/{number:06d}.mp4"


def answer_all(ledger: Ledger, manifest: Manifest) -> None:
    """Commit every shard, through the ledger as a worker does. Not synced: it is thrown away."""
    with (
        mock.patch("os.fsync"),
        ThreadPoolExecutor(_WRITERS) as pool,
    ):
        for _ in pool.map(lambda plan: _answer(ledger, plan), manifest.shards):
            pass


def _answer(ledger: Ledger, plan: ShardPlan) -> None:
    rows = [answered(row) for row in ledger.read_shard(plan)]
    ids = [row.row_id for row in rows]
    ledger.claim(plan.number, Claim(1, "bench", f"bench-{plan.number}", ids))
    parts = [rows[start : start + _ROWS_PER_PART] for start in range(0, len(rows), _ROWS_PER_PART)]
    refs = [ledger.write_part(plan.number, 1, n, part) for n, part in enumerate(parts, 1)]
    ledger.commit(plan.number, 1, refs, rows)


def answered(row: ShardRow) -> FinishedRow:
    """A row with an output record of the usual size."""
    output = {
        **row.record,
        "response": "The red square moves slowly from left to right.",
        "full_text": f"<video>{row.question} The red square moves slowly from left to right.",
        "model_id": str(_DEMO_MODEL),
        "answer_id": f"{row.seq:024x}",
        "finish_reason": "stop",
        "num_prompt_tokens": 151,
        "num_generated_tokens": 12,
        "frames": [0, 4, 8, 12, 16, 20, 24, 28],
        "attempt": 1,
    }
    return FinishedRow(row.seq, row.row_id, output, None)
