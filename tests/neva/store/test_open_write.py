"""Objects written as their content comes, and many keys looked for at once, on every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from neva.store import Store, open_store
from neva.store.s3_client import current_environment, shared_client

PART = 3 << 20


def test_it_appears_whole_at_the_end_and_replaces_what_was_there(store: Store) -> None:
    store.put("a/out", b"old")
    with store.open_write("a/out") as file:
        for number in range(7):
            file.write(bytes([number]) * PART)
        assert store.get("a/out") == b"old"
    assert store.get("a/out") == b"".join(bytes([n]) * PART for n in range(7))


def test_a_small_one_and_an_empty_one_can_be_written(store: Store) -> None:
    with store.open_write("empty"):
        pass
    with store.open_write("small") as file:
        file.write(b"x")
    assert (store.get("empty"), store.get("small")) == (b"", b"x")


def test_nothing_is_left_of_one_that_was_given_up(store: Store) -> None:
    with pytest.raises(RuntimeError), store.open_write("out") as file:
        for _ in range(7):
            file.write(b"x" * PART)
        raise RuntimeError
    assert list(store.list()) == []


def test_no_part_of_a_given_up_upload_is_left_to_be_paid_for(s3_bucket: str) -> None:
    store = open_store(f"s3://{s3_bucket}/run/")
    with pytest.raises(RuntimeError), store.open_write("out") as file:
        for _ in range(7):
            file.write(b"x" * PART)
        raise RuntimeError
    client = shared_client(current_environment())
    assert "Uploads" not in client.list_multipart_uploads(Bucket=s3_bucket)


def test_no_hidden_file_of_a_given_up_one_is_left(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(RuntimeError), store.open_write("out") as file:
        file.write(b"x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_others", [0, 700])
def test_what_is_said_to_be_there_is_there(store: Store, num_others: int) -> None:
    if num_others and store.base_uri.startswith("s3"):
        num_others = 3  # puts take their time; 600 keys are asked for, so that it lists
    for number in range(num_others):
        store.put(f"other/{number:04d}", b"")
    there = ["a/b", "a/b.mp4", "a/c/d", "z"]
    for key in there:
        store.put(key, b"")
    lost = ["a/b.", "a", "a/c", "a/zz", "y", *(f"a/lost/{n}" for n in range(600))]
    found = store.present([*there, *lost])
    assert not any(found[len(there) :])
    assert all(found[: len(there)])


def test_links_are_for_head_to_judge(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"")
    videos = tmp_path / "videos"
    (videos / "real").mkdir(parents=True)
    (videos / "real" / "a").write_bytes(b"")
    (videos / "link").symlink_to(tmp_path / "outside")
    (videos / "inside").symlink_to(videos / "real")
    (videos / "out").symlink_to(tmp_path)
    store = open_store(str(videos), confined=True)
    keys = ["real/a", "link", "inside/a", "out/outside", "none/a"]
    assert store.present(keys) == [True, False, True, False, False]
