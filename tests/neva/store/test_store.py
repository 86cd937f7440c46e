"""What every store promises, checked on each of them with the same tests."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neva.reasons import Reason
from neva.store import (
    AlreadyExists,
    InvalidKey,
    NotFound,
    ObjectInfo,
    Store,
    open_object,
    open_store,
    put_if_absent_or_same,
)

AWKWARD_KEYS = [
    "a b.txt",
    "100%25 ü.mp4",
    "日本/é.json",
    "a+b&c=d?e#f;g",
    "x/y/z/.hidden",
    "q'\"<>",
]


def test_what_was_put_is_read_back(store: Store) -> None:
    store.put("shards/00001/input.jsonl", b"one")
    assert store.get("shards/00001/input.jsonl") == b"one"
    store.put("shards/00001/input.jsonl", b"")
    assert store.get("shards/00001/input.jsonl") == b""


@pytest.mark.parametrize("key", AWKWARD_KEYS)
def test_awkward_names_survive_every_way_around(store: Store, tmp_path: Path, key: str) -> None:
    store.put(key, b"x")
    assert [info.key for info in store.list()] == [key]
    assert store.get(key) == b"x"
    assert store.head(key) is not None
    store.download(key, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x"
    parent, name = open_object(store.uri_of(key))
    assert parent.get(name) == b"x"
    store.delete(key)
    assert list(store.list()) == []


def test_a_missing_object_is_none_or_not_found(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"x")
    for key in ["a/c", "a", "b/c", "a/b/c", "x" * 400]:
        assert store.head(key) is None
        assert store.get_or_none(key) is None
        with pytest.raises(NotFound) as caught:
            store.get(key)
        assert caught.value.reason is Reason.OBJECT_NOT_FOUND
        assert not caught.value.retryable
        with pytest.raises(NotFound):
            store.download(key, tmp_path / "copy")
    assert list(tmp_path.glob("copy*")) == []


def test_the_etag_follows_the_content(store: Store) -> None:
    first = store.put("a", b"one")
    assert _head(store, "a").etag == first
    assert [info.etag for info in store.list()] == [first]
    second = store.put("a", b"two")
    assert second != first
    assert _head(store, "a").etag == second
    assert store.put("b", b"one") == first


def test_sizes_are_told(store: Store) -> None:
    store.put("a", b"12345")
    assert _head(store, "a").size_bytes == 5
    assert [info.size_bytes for info in store.list()] == [5]


def test_a_conditional_put_loses_against_an_existing_object(store: Store) -> None:
    store.put("commit.json", b"mine", if_absent=True)
    with pytest.raises(AlreadyExists, match=r"commit\.json") as caught:
        store.put("commit.json", b"theirs", if_absent=True)
    assert caught.value.reason == Reason.OBJECT_EXISTS
    assert store.get("commit.json") == b"mine"
    store.delete("commit.json")
    store.put("commit.json", b"theirs", if_absent=True)
    assert store.get("commit.json") == b"theirs"


def test_a_conditional_put_recognises_its_own_earlier_success(store: Store) -> None:
    etag = store.put("commit.json", b'{"attempt": 1}')
    assert put_if_absent_or_same(store, "commit.json", b'{"attempt": 1}') == etag
    with pytest.raises(AlreadyExists):
        put_if_absent_or_same(store, "commit.json", b'{"attempt": 2}')
    assert put_if_absent_or_same(store, "other.json", b"{}") == _head(store, "other.json").etag


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_one_of_eight_racing_processes_wins(store: Store, store_base_uri: str) -> None:
    context = multiprocessing.get_context("fork")  # also: a store is usable after a fork
    list(store.list())  # the parent's client exists before it forks
    results = context.Queue()
    barrier = context.Barrier(8)
    rounds = 5
    racers = [
        context.Process(target=_race, args=(store, barrier, number, rounds, results))
        for number in range(8)
    ]
    for racer in racers:
        racer.start()
    outcomes = [results.get(timeout=60) for _ in range(8 * rounds)]
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    for round_number in range(rounds):
        winners = [who for r, who, won in outcomes if r == round_number and won]
        assert len(winners) == 1, winners
        expected = b"%d" % winners[0] * 10_000
        assert open_store(store_base_uri).get(f"race/{round_number}") == expected


def _race(store: Store, barrier: Any, number: int, rounds: int, results: Any) -> None:
    for round_number in range(rounds):
        barrier.wait(30)
        try:
            store.put(f"race/{round_number}", b"%d" % number * 10_000, if_absent=True)
        except AlreadyExists:
            results.put((round_number, number, False))
        else:
            results.put((round_number, number, True))


def test_listings_are_sorted_by_the_bytes_of_the_whole_key(store: Store) -> None:
    keys = ["a.b", "a/b", "a/b.c", "a0", "a/b/c" if store.local_path("x") is None else "a/bb/c"]
    keys += ["a-b/z", "B", "ä/x", "z/\U0001f600", "z/\uffee"]
    for key in keys:
        store.put(key, b"")
    assert [info.key for info in store.list()] == sorted(keys, key=str.encode)


def test_listings_take_a_prefix_that_may_end_anywhere(store: Store) -> None:
    for key in ["shards/00001/input", "shards/00010/input", "shards/00100/input", "shard"]:
        store.put(key, b"")
    assert _keys(store, "shards/000") == ["shards/00001/input", "shards/00010/input"]
    assert _keys(store, "shards/") == _keys(store, "shards")
    assert _keys(store, "shards/00001/in") == ["shards/00001/input"]
    assert _keys(store, "shard")[0] == "shard"
    assert _keys(store, "nothing/here") == []
    assert _keys(store, "shard/") == []


def test_listings_go_on_after_a_key(store: Store) -> None:
    for key in ["a/1", "a/2", "b"]:
        store.put(key, b"")
    assert [info.key for info in store.list(start_after="a/1")] == ["a/2", "b"]
    assert [info.key for info in store.list("a/", start_after="a/1x")] == ["a/2"]


def test_an_empty_base_lists_nothing(store: Store) -> None:
    assert list(store.list()) == []


def test_streams_read_in_pieces_and_ranges(store: Store) -> None:
    content = bytes(range(256)) * 4096
    store.put("big", content)
    with store.open_read("big") as stream:
        assert stream.read(10) == content[:10]
        assert stream.readline() == content[10 : content.index(b"\n", 10) + 1]
        rest = stream.read()
    assert content.endswith(rest)
    for offset, num_bytes in [(0, 5), (1000, 700_000), (len(content) - 3, 10), (5, 0), (5, None)]:
        with store.open_read("big", offset=offset, num_bytes=num_bytes) as stream:
            end = None if num_bytes is None else offset + num_bytes
            assert stream.read() == content[offset:end]
    for offset in [len(content), len(content) + 10]:
        with store.open_read("big", offset=offset, num_bytes=4) as stream:
            assert stream.read() == b""
        with store.open_read("big", offset=offset) as stream:
            assert stream.read() == b""


def test_files_go_up_and_down_whole(store: Store, tmp_path: Path) -> None:
    content = b"0123456789abcdef" * (1 << 16) * 9  # 9 MiB: several parts on S3
    source = tmp_path / "source"
    source.write_bytes(content)
    store.put_file("models/weights", source)
    target = tmp_path / "made" / "on" / "the" / "way"
    store.download("models/weights", target)
    assert target.read_bytes() == content
    assert _head(store, "models/weights").size_bytes == len(content)
    assert [path.name for path in target.parent.iterdir()] == ["way"]


def test_deleting_twice_is_no_error(store: Store) -> None:
    store.put("a/b/c", b"")
    store.delete("a/b/c")
    store.delete("a/b/c")
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "key",
    ["", "/", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a/.", "a\0b", "a\nb",
     "x" * 1025, "\ud800", "a/.neva-tmp-1"],
)  # fmt: skip
def test_keys_can_not_leave_the_base(store: Store, key: str) -> None:
    for use in [store.get, store.head, store.delete, store.uri_of, store.local_path]:
        with pytest.raises(InvalidKey):
            use(key)
    with pytest.raises(InvalidKey):
        store.put(key, b"")


@pytest.mark.parametrize("prefix", ["/", "../", "a/../b", "a//", "\0"])
def test_prefixes_can_not_leave_the_base(store: Store, prefix: str) -> None:
    with pytest.raises(InvalidKey):
        list(store.list(prefix))


def test_a_store_sees_only_what_lies_below_its_base(store: Store, store_base_uri: str) -> None:
    store.put("inner/a", b"1")
    store.put("inner-not/a", b"2")
    inner = open_store(f"{store_base_uri}inner")
    assert [info.key for info in inner.list()] == ["a"]
    assert inner.base_uri == f"{store.base_uri}inner/"


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["put", "put_new", "delete"]), st.sampled_from("abc"), st.binary()
        )
    )
)
def test_a_store_behaves_like_a_dictionary(
    store: Store, steps: list[tuple[str, str, bytes]]
) -> None:
    model: dict[str, bytes] = {}
    for info in list(store.list()):
        store.delete(info.key)
    for step, name, data in steps:
        key = f"dir/{name}"
        if step == "delete":
            store.delete(key)
            model.pop(key, None)
        elif step == "put_new" and key in model:
            with pytest.raises(AlreadyExists):
                store.put(key, data, if_absent=True)
        else:
            store.put(key, data, if_absent=step == "put_new")
            model[key] = data
    assert {info.key: store.get(info.key) for info in store.list()} == model


def _head(store: Store, key: str) -> ObjectInfo:
    info = store.head(key)
    assert info is not None
    return info


def _keys(store: Store, prefix: str) -> list[str]:
    return [info.key for info in store.list(prefix)]
