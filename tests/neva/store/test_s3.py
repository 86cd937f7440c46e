"""What only a network store can get wrong; the faults are made by a proxy before a real server."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest

from neva.reasons import Reason
from neva.store import (
    AlreadyExists,
    BucketNotFound,
    NotFound,
    Store,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    open_store,
    put_if_absent_or_same,
    s3,
    s3_client,
    s3_stream,
)
from tests.support.s3_proxy import Fault, S3Proxy

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def store(proxied_store: Store, proxy: S3Proxy) -> Store:
    """A store behind the proxy, with one object in it."""
    proxied_store.put("big", CONTENT)
    proxy.seen.clear()
    return proxied_store


@pytest.mark.parametrize("num_bytes", [0, 1, 300_000])
def test_a_read_goes_on_after_a_reset(store: Store, proxy: S3Proxy, num_bytes: int) -> None:
    proxy.faults = [Fault("GET", "big", times=3, reset_after_bytes=num_bytes)]
    assert store.get("big") == CONTENT
    assert len(proxy.seen) == 4
    if num_bytes == 300_000:
        ranges = [asked for _, _, asked in proxy.seen]
        assert ranges[0] is None
        assert all(asked and asked.startswith("bytes=") for asked in ranges[1:])


def test_a_read_goes_on_after_an_early_end(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("GET", "big", times=2, close_after_bytes=100_000)]
    with store.open_read("big", offset=10, num_bytes=500_000) as stream:
        assert stream.read() == CONTENT[10:500_010]


def test_a_read_that_always_breaks_off_gives_up(
    store: Store, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_stream, "_FIRST_PAUSE_S", 0)
    proxy.faults = [Fault("GET", "big", times=99, reset_after_bytes=0)]
    with pytest.raises(StoreUnavailable, match="broke off") as caught:
        store.get("big")
    assert caught.value.retryable
    assert len(proxy.seen) == 6


def test_a_read_does_not_go_on_in_another_version(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("GET", "big", reset_after_bytes=0)]
    with store.open_read("big") as stream:
        store.put("big", CONTENT[::-1])
        with pytest.raises(StoreUnavailable, match="was replaced"):
            stream.read()


def test_a_download_survives_a_reset_and_an_overload(
    store: Store, proxy: S3Proxy, tmp_path: Path
) -> None:
    proxy.faults = [
        Fault("GET", "big", reset_after_bytes=1000),
        Fault("GET", "big", status=503, code="SlowDown"),
    ]
    store.download("big", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_a_failed_download_leaves_nothing(store: Store, proxy: S3Proxy, tmp_path: Path) -> None:
    (tmp_path / "copy").write_bytes(b"old")
    proxy.faults = [Fault("GET", "big", times=99, reset_after_bytes=1000)]
    with pytest.raises(StoreUnavailable):
        store.download("big", tmp_path / "copy")
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]
    assert (tmp_path / "copy").read_bytes() == b"old"


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_an_overloaded_store_is_asked_again(
    store: Store, proxy: S3Proxy, status: int, code: str
) -> None:
    proxy.faults = [
        Fault(method, times=1, status=status, code=code) for method in ["GET", "PUT", "HEAD"]
    ]
    assert store.get("big") == CONTENT
    assert store.head("big") is not None
    store.put("small", b"x")
    assert [info.key for info in store.list()] == ["big", "small"]


def test_a_store_that_stays_overloaded_is_unavailable(
    s3_uri: str, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = open_store(s3_uri)
    proxy.faults = [Fault("PUT", times=99, status=503, code="SlowDown")]
    with pytest.raises(StoreUnavailable, match="SlowDown") as caught:
        store.put("a", b"")
    assert caught.value.retryable
    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert len(proxy.seen) == 2


def test_a_conflict_is_tried_again(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("PUT", times=3, status=409, code="ConditionalRequestConflict")]
    store.put("commit", b"x", if_absent=True)
    assert store.get("commit") == b"x"


def test_a_put_whose_answer_was_lost_recognises_itself(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("PUT", "lost", lose_answer=True)]
    with pytest.raises(AlreadyExists):
        store.put("lost", b"mine", if_absent=True)
    proxy.faults = [Fault("PUT", "commit", lose_answer=True)]
    etag = put_if_absent_or_same(store, "commit", b"mine")
    info = store.head("commit")
    assert info is not None
    assert info.etag == etag


def test_only_a_large_body_is_announced_before_it_comes(
    store: Store,
) -> None:
    """What a small one would wait for is a whole round trip; large ones keep the safeguard."""
    announced = []

    def note(request: AWSPreparedRequest, **_: object) -> None:
        announced.append("Expect" in request.headers)

    client = s3_client.shared_client(s3_client.current_environment())
    client.meta.events.register("before-send.s3.PutObject", note)
    try:
        store.put("small", CONTENT)
        store.put("large", CONTENT + b"x")
    finally:
        client.meta.events.unregister("before-send.s3.PutObject", note)
    assert announced == [False, True]


def test_a_denied_request_names_the_rights_it_needs(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault(method, times=9, status=403, code="AccessDenied") for method in
                    ["GET", "PUT", "HEAD"]]  # fmt: skip
    uses: list[Callable[[], object]] = [
        partial(store.get, "big"),
        partial(store.get_or_none, "big"),
        partial(store.put, "big", b""),
        partial(store.head, "big"),
        lambda: next(store.list()),
    ]
    for use in uses:
        with pytest.raises(StoreDenied, match=r"s3:GetObject.*s3:ListBucket") as caught:
            use()
        assert "\n" not in caught.value.message
        assert not caught.value.retryable


def test_wrong_credentials_name_the_variables(store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("GET", status=403, code="SignatureDoesNotMatch")]
    with pytest.raises(StoreDenied, match="AWS_SECRET_ACCESS_KEY"):
        store.get("big")


def test_no_credentials_name_the_variables(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreDenied, match="AWS_ACCESS_KEY_ID") as caught:
        open_store(s3_uri).get("a")
    assert caught.value.reason is Reason.STORE_DENIED


def test_a_missing_bucket_is_never_taken_for_a_missing_object(s3_endpoint: str) -> None:
    store = open_store("s3://no-such-bucket/prefix")
    uses: list[Callable[[], object]] = [
        partial(store.get, "a"),
        partial(store.get_or_none, "a"),
        partial(store.head, "a"),
        partial(store.put, "a", b""),
        partial(store.put, "a", b"", if_absent=True),
        lambda: next(store.list()),
    ]
    for use in uses:
        with pytest.raises(BucketNotFound, match="no-such-bucket"):
            use()
    assert not issubclass(BucketNotFound, NotFound)


def test_an_unreachable_endpoint_is_unavailable(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        open_store(s3_uri).get("a")


def test_a_bucket_name_that_can_not_be_is_an_error(s3_endpoint: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store("s3://Not A Bucket/x").get("a")
    assert caught.value.reason is Reason.INVALID_CONFIG


def test_listings_go_over_several_pages(
    store: Store, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "_KEYS_PER_PAGE", 2)
    keys = [f"pages/{number}" for number in range(5)]
    for key in keys:
        store.put(key, b"")
    proxy.seen.clear()
    assert [info.key for info in store.list("pages/")] == keys
    assert len(proxy.seen) == 3


def test_folder_markers_and_odd_keys_are_not_listed(s3_bucket: str) -> None:
    client = boto3.client("s3")
    for key in ["p/", "p/dir/", "p/a//b", "p/good"]:
        client.put_object(Bucket=s3_bucket, Key=key, Body=b"")
    client.close()
    assert [info.key for info in open_store(f"s3://{s3_bucket}/p").list()] == ["good"]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_stores_of_one_environment_share_one_client_and_a_fork_gets_its_own(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = s3_client.current_environment()
    client = s3_client.shared_client(environment)
    assert s3_client.shared_client(s3_client.current_environment()) is client
    child = os.fork()
    if child == 0:
        is_new = s3_client.shared_client(environment) is not client
        os._exit(0 if is_new else 1)
    assert os.waitpid(child, 0)[1] == 0
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody-else")
    assert s3_client.shared_client(s3_client.current_environment()) is not client


def test_buckets_stand_in_the_path_on_other_servers_only(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _style() == "path"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert _style() is None


def _style() -> str | None:
    client = s3_client.shared_client(s3_client.current_environment())
    options: dict[str, str] | None = getattr(client.meta.config, "s3", None)
    return (options or {}).get("addressing_style")
