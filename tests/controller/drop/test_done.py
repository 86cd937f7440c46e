"""What becomes of a drop's files when its job has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.drop.bucket import Bucket, Fate
from controller.drop.done import (
    MAX_ERRORS,
    errors_key,
    leave_record,
    outputs_of,
    take_away,
    tell_errors,
)
from controller.drop.scan import Drop, find_drops
from neva.ledger import layout
from neva.store import Store, open_store


def drops(bucket: Bucket) -> list[Drop]:
    return find_drops(
        bucket.list(), base_uri=bucket.uri, folder_name="inbox", marker="_READY", skip="done/"
    )


@pytest.fixture
def inputs(watched: Bucket) -> Store:
    return open_store(watched.uri)


def fill_folder(inputs: Store) -> None:
    for key in ("x/a.mp4", "x/deep/b.mp4", "x/prompts.jsonl", "x/_READY", "y.jsonl"):
        inputs.put(key, key.encode())


def keys(bucket: Bucket) -> set[str]:
    return {listed.key for listed in bucket.list()}


def test_a_folder_is_moved_whole_below_its_jobs_name(watched: Bucket, inputs: Store) -> None:
    fill_folder(inputs)
    [drop] = [drop for drop in drops(watched) if drop.folder]
    assert take_away(watched, drop, "move", "done/") == {Fate.DONE: 4}
    base = f"done/{drop.name}/"
    moved = {f"{base}{name}" for name in ("a.mp4", "deep/b.mp4", "prompts.jsonl", "_READY")}
    assert keys(watched) == {"y.jsonl", *moved}


@pytest.mark.parametrize("num_moved", range(5))
def test_an_interrupted_move_is_finished(
    watched: Bucket, inputs: Store, monkeypatch: pytest.MonkeyPatch, num_moved: int
) -> None:
    fill_folder(inputs)
    [drop] = [drop for drop in drops(watched) if drop.folder]
    real, count = Bucket.move, 0

    def dying(self: Bucket, listed: Any, target: str) -> Fate:
        nonlocal count
        if count == num_moved:
            raise KeyboardInterrupt
        count += 1
        return real(self, listed, target)

    monkeypatch.setattr(Bucket, "move", dying)
    monkeypatch.setattr("controller.drop.done._THREADS", 1)
    if num_moved < 4:
        with pytest.raises(KeyboardInterrupt):
            take_away(watched, drop, "move", "done/")
    monkeypatch.setattr(Bucket, "move", real)
    take_away(watched, drop, "move", "done/")
    assert len(keys(watched)) == 5
    assert {key for key in keys(watched) if not key.startswith("done/")} == {"y.jsonl"}


def test_a_changed_drop_is_left_alone(watched: Bucket, inputs: Store) -> None:
    fill_folder(inputs)
    for drop in drops(watched):
        inputs.put(drop.key, b"changed")
        assert take_away(watched, drop, "move", "done/") == {Fate.CHANGED: 1}
    assert len(keys(watched)) == 5


def test_two_versions_of_a_file_are_both_kept(watched: Bucket, inputs: Store) -> None:
    for content in (b"first", b"second"):
        inputs.put("a.jsonl", content)
        [drop] = drops(watched)
        take_away(watched, drop, "move", "done/")
    assert {inputs.get(key) for key in keys(watched)} == {b"first", b"second"}


def test_tag_and_keep_leave_everything_where_it_is(watched: Bucket, inputs: Store) -> None:
    fill_folder(inputs)
    before = keys(watched)
    for drop in drops(watched):
        assert take_away(watched, drop, "keep", "done/") == {}
        assert set(take_away(watched, drop, "tag", "done/")) == {Fate.DONE}
    assert keys(watched) == before


def test_errors_are_told_with_line_reason_and_message(watched: Bucket, inputs: Store) -> None:
    inputs.put("a.jsonl", b"x")
    [drop] = drops(watched)
    outputs = outputs_of(f"s3://{watched.name}/out/", drop)
    rows = [
        {"line": n, "reason": "InvalidJson", "message": "no", "record": "x" * 50}
        for n in range(MAX_ERRORS + 5)
    ]
    outputs.put(layout.ERRORS, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    key = errors_key(drop, None)
    assert key == "a.errors.json"
    assert tell_errors(inputs, outputs, drop, key, "PrepareFailed", "too many")
    told = json.loads(inputs.get(key))
    assert told["errors"][0] == {"line": 0, "reason": "InvalidJson", "message": "no"}
    assert len(told["errors"]) == MAX_ERRORS
    assert told["more"].endswith(f"/{drop.name}/errors.jsonl")
    assert (told["reason"], told["message"]) == ("PrepareFailed", "too many")
    assert drops(watched) == [drop], "what is told is no drop"


def test_a_job_without_errors_leaves_no_file(watched: Bucket, inputs: Store) -> None:
    inputs.put("a.jsonl", b"x")
    [drop] = drops(watched)
    outputs = outputs_of(f"s3://{watched.name}/out/", drop)
    outputs.put(layout.ERRORS, b"")
    assert not tell_errors(inputs, outputs, drop, errors_key(drop, None), "", "")
    assert keys(watched) == {"a.jsonl"}


def test_errors_lie_beside_the_prompts_wherever_they_are(watched: Bucket, inputs: Store) -> None:
    fill_folder(inputs)
    folder, file = sorted(drops(watched), key=lambda drop: drop.folder is None)
    assert errors_key(folder, None) == "x/prompts.errors.json"
    assert errors_key(folder, "done/") == f"done/{folder.name}/prompts.errors.json"
    assert errors_key(file, "done/") == f"done/{file.name}/y.errors.json"


def test_the_outputs_say_what_they_were_made_of(watched: Bucket, inputs: Store) -> None:
    inputs.put("a.jsonl", b"x")
    [drop] = drops(watched)
    outputs = outputs_of(f"s3://{watched.name}/out/", drop)
    leave_record(outputs, drop, inputs.uri_of(drop.key))
    assert json.loads(outputs.get("drop.json"))["input"] == inputs.uri_of("a.jsonl")
    assert Bucket(f"s3://{watched.name}/out/").folders() == {drop.name}
