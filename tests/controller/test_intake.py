"""The quick intake against a slow and simple one: the same rows and the same words."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from controller import line_files
from controller.forked import run_all
from controller.intake import take_in
from neva.errors import ConfigError, NevaError, RowError
from neva.ledger import FinishedRow, error_line
from neva.model_files import find_model, small_model_files
from neva.prompts import RESERVED_KEYS, BadRow, read_prompts
from neva.reasons import Reason
from neva.row_prompt import RowPrompts
from neva.spec import VideoNevaJob
from tests.controller.test_start import job

LONG = "9" * 1500  # tokens
PRESENT = ("a.mp4", "b/c.mp4", "ü.mp4")

GOOD = [
    {"question_id": 1, "video": "a.mp4", "text": "What happens in this video, and why?"},
    {"question_id": 2, "video": "./b//c.mp4", "question": "Who is there?", "options": ["A", 1.5]},
    {"question_id": "3", "video": "b/c.mp4", "prompt": "Wo ist der Ball? Überall!"},
    {"question_id": "x y", "video": "ü.mp4", "text": "short"},
    {"question_id": 1, "video": "b/c.mp4", "text": "The same id as another one has, that is all."},
    {"question_id": "1", "video": "a.mp4", "text": "And again the same id, now as a text."},
]
BAD = [
    {"question_id": 4, "video": "lost.mp4", "text": "This one's video does not exist, does it?"},
    {"question_id": 5, "video": "../a.mp4", "text": "This one's video is somewhere else."},
    {"question_id": 1, "video": "a.mp4"},
    {"question_id": 6, "video": "a.mp4", "text": "Two <video> tags are one too many, always."},
    {"question_id": 7, "video": "a.mp4", "text": "The model's own token <image> in the middle."},
    {"question_id": 8, "video": "a.mp4", "text": LONG},
    {"question_id": 1, "video": "a.mp4", "text": LONG},
    {"question_id": True, "video": "a.mp4", "text": "A strange id for a row that is fine."},
    {"question_id": 9, "video": 5, "text": "A strange name of a video."},
    {"question_id": 10, "video": "a.mp4", "text": "It has its answer already.", "response": "!"},
    {"video": "a.mp4", "text": "Nobody knows its id."},
]
RAW = [
    b"",
    b"  ",
    b"{",
    b"[1]",
    b"\xff",
    b'{"question_id":12345678901234567890123,"text":"?"}',
    b"7",
]
lines = st.one_of(
    st.sampled_from([orjson.dumps(row) for row in (*GOOD, *BAD)]),
    st.sampled_from([*RAW, orjson.dumps(GOOD[0]) + b"\r"]),
    st.builds(
        lambda n, name, words: orjson.dumps({"question_id": n, "video": name, "text": words * 9}),
        st.integers(0, 40),
        st.sampled_from(PRESENT),
        st.sampled_from(["what ", "where? ", "é ", "< ", "＜image＞ "]),
    ),
)

Row = tuple[int, int, str, str]  # seq, line, media, the record as JSON
Rejected = tuple[int, bytes]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> RowPrompts:
    spec = job(tmp_path_factory.mktemp("model")).spec
    with small_model_files(find_model(spec.model)) as model:
        return RowPrompts(spec, model.profile(), model.tokenizer())


def write(folder: Path, data: bytes, name: str = "prompts.jsonl") -> VideoNevaJob:
    for media in PRESENT:
        path = folder / "videos" / media
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / name).write_bytes(data)
    return job(folder, input={"prompts": f"{folder}/{name}"})


def quickly(spec: VideoNevaJob, prompts: RowPrompts, processes: int) -> tuple[Any, ...]:
    with take_in(spec.spec, prompts, lookups=2, processes=processes) as intake:
        found = intake.reader.each(intake.rows.places)
        rows = [
            (seq, line, json.dumps(orjson.loads(raw)))
            for (seq, raw), line in zip(found, intake.rows.lines.tolist(), strict=True)
        ]
        return intake.num_rows, rows, list(intake.rejected_lines())


def slowly(
    data: bytes, spec: VideoNevaJob, prompts: RowPrompts, layout: Any = "jsonl"
) -> tuple[Any, ...]:
    rows, rejected, num_rows = [], [], 0
    media = Path(spec.spec.media_base_path)
    for row in read_prompts(
        io.BytesIO(data), "video", "left", reserved_keys=RESERVED_KEYS, layout=layout
    ):
        num_rows += 1
        error: tuple[str, str] | None = None
        if isinstance(row, BadRow):
            error = row.reason, row.message
        else:
            try:
                prompts.build(row.question)
            except RowError as problem:
                error = problem.reason, problem.message
            else:
                path = media / row.media_name
                if not path.is_file():
                    error = Reason.MEDIA_NOT_FOUND, f"{path.as_uri()} does not exist"
        if error is None:
            rows.append((row.seq, row.line, json.dumps(row.record)))
        else:
            rejected.append((row.seq, orjson.dumps(error_line(row.line, row.record, *error))))
    return num_rows, rows, rejected


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(some=st.lists(lines, max_size=60), end=st.sampled_from([b"", b"\n"]))
@example(some=[orjson.dumps(row) for row in (*GOOD, *BAD)] * 3, end=b"")
@example(some=[b"\xef\xbb\xbf" + orjson.dumps(GOOD[0])] * 2, end=b"\n")
def test_it_finds_what_a_look_at_each_row_finds(
    prompts: RowPrompts, some: list[bytes], end: bytes
) -> None:
    data = b"\n".join(some) + end
    with tempfile.TemporaryDirectory() as folder:
        spec = write(Path(folder), data)
        assert quickly(spec, prompts, 1) == slowly(data, spec, prompts)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_find_the_same(
    prompts: RowPrompts, tmp_path: Path, processes: int
) -> None:
    raws = [*(orjson.dumps(row) for row in (*GOOD, *BAD)), *RAW] * 7
    data = b"\n".join(raws)
    spec = write(tmp_path, data)
    assert quickly(spec, prompts, processes) == slowly(data, spec, prompts)


def test_a_line_that_is_too_long_is_one_bad_row(prompts: RowPrompts, tmp_path: Path) -> None:
    too_long = {**GOOD[0], "question_id": 11, "text": "x" * (1 << 20)}
    data = b"\n".join(map(orjson.dumps, [GOOD[0], too_long, GOOD[1]]))
    spec = write(tmp_path, data)
    found = quickly(spec, prompts, 1)
    assert [json.loads(error)["reason"] for _, error in found[2]] == [Reason.ROW_TOO_LARGE]
    assert found == slowly(data, spec, prompts)


def test_the_elements_of_an_array_are_found_over_lines(prompts: RowPrompts, tmp_path: Path) -> None:
    data = json.dumps([*GOOD, *BAD], indent=2).encode()
    spec = write(tmp_path, data, "prompts.json")
    assert quickly(spec, prompts, 2) == slowly(data, spec, prompts, "json")


def test_what_is_wrong_in_another_process_is_raised_here() -> None:
    def refuse() -> int:
        raise ConfigError("no", reason=Reason.INVALID_CHECKPOINT)

    assert run_all([lambda: 1, lambda: 2]) == [1, 2]
    with pytest.raises(ConfigError, match="no") as caught:
        run_all([refuse, lambda: 2])
    assert caught.value.reason == Reason.INVALID_CHECKPOINT


def test_a_killed_process_is_no_short_result() -> None:
    def die() -> int:
        os._exit(9)

    with pytest.raises(NevaError, match="child process died"):
        run_all([die, lambda: 2])


def test_a_bug_in_a_process_is_told_and_not_to_be_tried_again() -> None:
    with pytest.raises(NevaError, match="ZeroDivisionError") as caught:
        run_all([lambda: 1 // 0, lambda: 2])
    assert not caught.value.retryable


def test_long_lines_are_read_few_at_a_time(
    prompts: RowPrompts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"video": "lost.mp4", "text": "What?", "more": "x" * 4000}
    data = b"\n".join(orjson.dumps({"question_id": n, **row}) for n in range(200))
    spec = write(tmp_path, data + b"\n" + orjson.dumps({**GOOD[0], "question_id": "good"}))
    largest, pread = 0, os.pread

    def watched(file: int, num_bytes: int, offset: int) -> bytes:
        nonlocal largest
        largest = max(largest, num_bytes)
        return pread(file, num_bytes, offset)

    monkeypatch.setattr(os, "pread", watched)
    monkeypatch.setattr(line_files, "_BATCH_BYTES", 20_000)
    num_rows, rows, rejected = quickly(spec, prompts, 1)
    assert (num_rows, len(rows), len(rejected)) == (201, 1, 200)
    assert 0 < largest <= 20_000 + 5_000


@pytest.mark.parametrize("levels", range(248, 256))
def test_a_row_that_is_taken_can_be_told_with_its_error(levels: int) -> None:
    record = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
    (row,) = read_prompts(io.BytesIO(record), "video", "left", reserved_keys=RESERVED_KEYS)
    assert isinstance(row, BadRow)  # it asks nothing
    told = error_line(row.line, row.record, row.reason, row.message)
    FinishedRow(row.seq, "", None, told).to_json()
