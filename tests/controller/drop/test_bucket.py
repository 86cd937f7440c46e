"""Listings that stay cheap, moves that lose nothing, tags; on a real S3 protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from controller.drop.bucket import Bucket, Fate, check_watchable
from controller.drop.scan import Listed
from neva.errors import ConfigError
from neva.store import BucketNotFound, open_store


def put(client: Any, bucket: Bucket, key: str, data: bytes = b"{}\n") -> None:
    client.put_object(Bucket=bucket.name, Key=bucket.prefix + key, Body=data)


def one(bucket: Bucket, key: str) -> Listed:
    [found] = [listed for listed in bucket.list(key) if listed.key == key]
    return found


def keys(bucket: Bucket) -> list[str]:
    return [listed.key for listed in bucket.list()]


def test_what_was_moved_away_is_not_listed_page_by_page(
    client: Any, watched: Bucket, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        put(client, watched, f"done/j/{number:02d}.jsonl")
    for key in ("a.jsonl", "done0.jsonl", "e.jsonl", "é.jsonl"):
        put(client, watched, key)
    small_pages(client, monkeypatch, 5)
    calls.clear()
    assert [x.key for x in watched.list(skip="done/") if not x.key.startswith("done/")] == [
        "a.jsonl",
        "done0.jsonl",
        "e.jsonl",
        "é.jsonl",
    ]
    assert calls["ListObjectsV2"] == 2
    assert len(keys(watched)) == 34


def small_pages(client: Any, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    real = client.list_objects_v2
    monkeypatch.setattr(client, "list_objects_v2", lambda **asked: real(**asked, MaxKeys=size))


def test_a_listing_tells_the_stores_own_time(client: Any, watched: Bucket) -> None:
    put(client, watched, "a.jsonl")
    found = one(watched, "a.jsonl")
    assert found.store_s is not None
    assert 0 <= found.store_s - found.modified_s < 120


def test_folders_are_listed_without_what_they_hold(
    client: Any, watched: Bucket, calls: Counter[str]
) -> None:
    for key in ("a/1", "a/2", "b c/1", "file"):
        put(client, watched, key)
    assert watched.folders() == {"a", "b c"}
    assert calls["ListObjectsV2"] == 1


def test_named_drops_are_listed_alone(client: Any, watched: Bucket) -> None:
    for key in ("a.jsonl", "a.jsonl.bak", "b.jsonl", "x/prompts.jsonl", "x/v.mp4", "xy/v.mp4"):
        put(client, watched, key)
    found = [x.key for x in watched.list_drops(["a.jsonl", "gone.jsonl", "x/_READY"])]
    assert found == ["x/prompts.jsonl", "x/v.mp4", "a.jsonl"]


def test_a_move_leaves_the_same_object_elsewhere(client: Any, watched: Bucket) -> None:
    put(client, watched, "a b+ü.jsonl", b"content")
    assert watched.move(one(watched, "a b+ü.jsonl"), "done/j/a b+ü.jsonl") is Fate.DONE
    assert keys(watched) == ["done/j/a b+ü.jsonl"]
    assert open_store(watched.uri).get("done/j/a b+ü.jsonl") == b"content"


def test_a_move_is_repeatable(client: Any, watched: Bucket) -> None:
    put(client, watched, "a.jsonl")
    listed = one(watched, "a.jsonl")
    watched.move(listed, "done/a.jsonl")
    assert watched.move(listed, "done/a.jsonl") is Fate.GONE
    assert keys(watched) == ["done/a.jsonl"]


def test_a_file_changed_before_the_move_stays(client: Any, watched: Bucket) -> None:
    put(client, watched, "a.jsonl", b"old")
    listed = one(watched, "a.jsonl")
    put(client, watched, "a.jsonl", b"new")
    assert watched.move(listed, "done/a.jsonl") is Fate.CHANGED
    assert open_store(watched.uri).get("a.jsonl") == b"new"


class Meddling:
    """A client that lets something happen right before one operation."""

    def __init__(self, client: Any, operation: str, meddle: Callable[[], None]) -> None:
        self._client, self._operation, self._meddle = client, operation, meddle

    def __getattr__(self, name: str) -> Any:
        if name == self._operation:
            self._meddle()
        return getattr(self._client, name)


@pytest.mark.parametrize("operation", ["copy_object", "head_object"])
def test_a_file_changed_in_the_middle_of_a_move_stays(
    client: Any, watched: Bucket, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    put(client, watched, "a.jsonl", b"old")
    listed = one(watched, "a.jsonl")
    meddler = Meddling(client, operation, lambda: put(client, watched, "a.jsonl", b"new"))
    monkeypatch.setattr(Bucket, "_client", property(lambda self: meddler))
    assert watched.move(listed, "done/a.jsonl") is Fate.CHANGED
    assert open_store(watched.uri).get("a.jsonl") == b"new"


def delete_answering(client: Any, status: int, code: str, asked: list[dict[str, Any]]) -> Any:
    """A client whose store answers a conditional delete so."""

    class Store:
        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

        def delete_object(self, **given: Any) -> Any:
            asked.append(given)
            if "IfMatch" not in given:
                return client.delete_object(**given)
            answer: Any = {
                "Error": {"Code": code},
                "ResponseMetadata": {"HTTPStatusCode": status},
            }
            raise ClientError(answer, "DeleteObject")

    return Store()


def test_a_store_that_keeps_a_changed_file_is_believed(
    client: Any, watched: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, watched, "a.jsonl")
    asked: list[dict[str, Any]] = []
    store = delete_answering(client, 412, "PreconditionFailed", asked)
    monkeypatch.setattr(Bucket, "_client", property(lambda self: store))
    listed = one(watched, "a.jsonl")
    assert watched.move(listed, "done/a.jsonl") is Fate.CHANGED
    assert [given["IfMatch"] for given in asked] == [f'"{listed.etag}"']
    assert keys(watched) == ["a.jsonl", "done/a.jsonl"]


def test_a_store_without_conditional_deletes_still_moves(
    client: Any, watched: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(client, watched, "a.jsonl")
    store = delete_answering(client, 501, "NotImplemented", [])
    monkeypatch.setattr(Bucket, "_client", property(lambda self: store))
    assert watched.move(one(watched, "a.jsonl"), "done/a.jsonl") is Fate.DONE
    assert keys(watched) == ["done/a.jsonl"]


def test_a_tag_comes_on_top_of_others(client: Any, watched: Bucket) -> None:
    put(client, watched, "a.jsonl")
    name = {"Bucket": watched.name, "Key": f"{watched.prefix}a.jsonl"}
    client.put_object_tagging(**name, Tagging={"TagSet": [{"Key": "mine", "Value": "1"}]})
    for _ in range(2):
        assert watched.tag(one(watched, "a.jsonl"), "neva-batch.dev/job", "j") is Fate.DONE
    tags = {tag["Key"]: tag["Value"] for tag in client.get_object_tagging(**name)["TagSet"]}
    assert tags == {"mine": "1", "neva-batch.dev/job": "j"}


def test_a_changed_file_is_not_tagged(client: Any, watched: Bucket) -> None:
    put(client, watched, "a.jsonl", b"old")
    listed = one(watched, "a.jsonl")
    put(client, watched, "a.jsonl", b"new")
    assert watched.tag(listed, "neva-batch.dev/job", "j") is Fate.CHANGED
    name = {"Bucket": watched.name, "Key": f"{watched.prefix}a.jsonl"}
    assert client.get_object_tagging(**name)["TagSet"] == []


def test_a_missing_bucket_is_named(s3_endpoint: str) -> None:
    with pytest.raises(BucketNotFound, match="no-such-bucket"):
        list(Bucket("s3://no-such-bucket/in/").list())


@pytest.mark.parametrize(
    ("uri", "output"),
    [
        ("file:///in/", "s3://b/out/"),
        ("s3://b/in/", "file:///out/"),
        ("s3://b/in/", "s3://b/in/out/"),
    ],
)
def test_what_cannot_be_watched_is_refused(s3_endpoint: str, uri: str, output: str) -> None:
    with pytest.raises(ConfigError):
        check_watchable({"uri": uri, "outputBase": output})
