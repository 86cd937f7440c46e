"""Which prompts a calibration looks at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest, ShardRow
from tests.fakes.memory_store import MemoryStore
from tests.neva.jobs import job_spec
from worker.calibration_rows import Asked, candidates, spread

ROWS = [Asked("1", "a"), Asked("2", "a"), Asked("3", "b"), Asked("4", "a"), Asked("5", "b")]


def test_each_media_is_asked_about_once_before_any_is_asked_about_twice() -> None:
    assert [row.question for row in spread(ROWS)] == ["1", "3", "2", "5", "4"]


def split(rows: Iterable[Asked], shard_rows: int) -> tuple[Ledger, Manifest]:
    ledger = Ledger(MemoryStore())
    shard_input = [
        ShardRow(n, n + 1, str(n), row.question, row.media_name, {}) for n, row in enumerate(rows)
    ]
    plans = [
        ledger.write_shard(number, shard_input[start : start + shard_rows])
        for number, start in enumerate(range(0, len(shard_input), shard_rows))
    ]
    return ledger, Manifest("run", {}, "", "", "", len(shard_input), 0, "", plans)


def test_the_jobs_first_rows_do_not_depend_on_its_shards() -> None:
    rows = [Asked(str(n), f"video {n // 3}") for n in range(200)]
    spec = job_spec(quantization={"enable": True, "calibrationRows": 3})
    found = [candidates(spec, *split(rows, size)) for size in (1, 7, 1000)]
    assert found[0] == found[1] == found[2]
    assert [row.question for row in found[0]][:4] == ["0", "3", "6", "9"]
    assert len(found[0]) == 3 * 16, "some may turn out to be unreadable"


def test_a_file_of_its_own_is_read_like_the_jobs(tmp_path: Path) -> None:
    path = tmp_path / "calibration.jsonl"
    lines = [
        {"video": f"{n}.mp4", "text": "?", "question_id": n, "response": f"It {n}"} for n in (1, 2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = job_spec(quantization={"enable": True, "calibrationPrompts": str(path)})
    ledger, manifest = split(ROWS, 2)
    found = candidates(spec, ledger, manifest)
    assert found == [Asked("?", "1.mp4", "It 1"), Asked("?", "2.mp4", "It 2")]


def test_a_bad_line_in_that_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "calibration.jsonl"
    path.write_text('{"video": "1.mp4", "text": "?", "question_id": 1}\n{"video": 3}\n')
    spec = job_spec(quantization={"enable": True, "calibrationPrompts": str(path)})
    with pytest.raises(ConfigError, match=r"calibration\.jsonl:2: "):
        candidates(spec, *split(ROWS, 2))
