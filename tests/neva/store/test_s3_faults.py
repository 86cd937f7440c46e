"""A network and a server at their worst: what is asked again, what is told, what is never lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.ledger import Claim, FinishedRow, Ledger, ShardRow
from neva.metrics import of_pods
from neva.metrics.base import Metric
from neva.metrics.counting import own_sums
from neva.reasons import Reason
from neva.store import (
    BucketNotFound,
    Store,
    StoreDenied,
    StoreUnavailable,
    open_store,
    put_if_absent_or_same,
    s3_client,
)
from neva.store.s3_client import current_environment, shared_client
from tests.support.s3_proxy import Fault, S3Proxy
from tests.support.tcp_proxy import Broken, TcpProxy, tcp_proxy

CONTENT = bytes(range(256)) * 4096  # 1 MiB
LARGE_BYTES = 20 << 20  # more than one part


@pytest.fixture
def wire(moto_endpoint: str, s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TcpProxy]:
    """A broken wire before the moto server, where the environment now leads; short timeouts."""
    monkeypatch.setattr(s3_client, "_READ_TIMEOUT_S", 1)
    with tcp_proxy(moto_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy
        shared_client(current_environment()).close()


@pytest.fixture
def wired_store(wire: TcpProxy, s3_uri: str) -> Store:
    return open_store(s3_uri)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(CONTENT * (LARGE_BYTES // len(CONTENT)))
    return path


def num_uploads(bucket: str) -> int:
    """Multipart uploads that were begun, and neither completed nor aborted."""
    answer = shared_client(current_environment()).list_multipart_uploads(Bucket=bucket)
    return len(answer.get("Uploads", []))


@pytest.mark.parametrize("num_bytes", [1, 300, 500_000])
def test_a_put_is_sent_again_after_a_reset_in_its_body(
    wired_store: Store, wire: TcpProxy, num_bytes: int
) -> None:
    wire.broken = [Broken(cut_after_bytes=num_bytes)] * 2
    wired_store.put("a", CONTENT)
    assert wire.num_connections == 3
    wire.broken = [Broken(cut_after_bytes=num_bytes)]
    shared_client(current_environment()).close()
    put_if_absent_or_same(wired_store, "b", CONTENT)
    assert wired_store.get("a") == wired_store.get("b") == CONTENT


def test_a_large_file_is_sent_whole_over_a_wire_that_breaks(
    wired_store: Store, wire: TcpProxy, large: Path
) -> None:
    wire.broken = [Broken(cut_after_bytes=n) for n in (400, 3 << 20, 9 << 20, 100)]
    wired_store.put_file("large", large)
    assert wired_store.get("large") == large.read_bytes()


def test_a_silent_server_is_left_and_asked_again(wired_store: Store, wire: TcpProxy) -> None:
    wire.broken = [Broken(silent=True)]
    wired_store.put("a", b"x")
    shared_client(current_environment()).close()
    wire.broken = [Broken(silent=True)]
    assert wired_store.get("a") == b"x"


def test_a_server_that_stays_silent_is_unavailable(
    wire: TcpProxy, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    wire.broken = [Broken(silent=True)]
    with pytest.raises(StoreUnavailable, match="timeout on endpoint") as caught:
        open_store(s3_uri).get("a")
    assert caught.value.retryable


def test_an_answer_that_drips_is_read_to_its_end(wired_store: Store, wire: TcpProxy) -> None:
    """Longer than the read timeout, which is about silence."""
    wired_store.put("a", CONTENT[:3000])
    shared_client(current_environment()).close()
    wire.broken = [Broken(drip_bytes=300, drip_pause_s=0.12)]
    assert wired_store.get("a") == CONTENT[:3000]


@pytest.mark.parametrize(
    ("status", "code"), [(429, "TooManyRequests"), (429, "SlowDown"), (503, "ServiceUnavailable")]
)
def test_a_store_that_is_asked_too_much_is_unavailable_for_now(
    s3_uri: str, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    store = open_store(s3_uri)
    proxy.faults = [Fault(method, times=99, status=status, code=code) for method in ("GET", "PUT")]
    for use in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: list(store.list())):
        with pytest.raises(StoreUnavailable) as caught:
            use()
        assert caught.value.retryable


def test_answers_of_writes_and_deletes_may_be_lost(proxied_store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("PUT", "a", lose_answer=True), Fault("DELETE", "a", lose_answer=True)]
    proxied_store.put("a", b"x")
    assert proxied_store.get("a") == b"x"
    proxied_store.delete("a")
    assert proxied_store.get_or_none("a") is None
    assert proxy.faults[0].times == proxy.faults[1].times == 0


@pytest.mark.parametrize("lost", ["uploads", "partNumber=1", "uploadId"])
def test_a_large_file_arrives_though_answers_are_lost(
    proxied_store: Store, proxy: S3Proxy, s3_bucket: str, large: Path, lost: str
) -> None:
    """The answer to the start, to a part, and to the end of a multipart upload."""
    method = "PUT" if lost.startswith("part") else "POST"
    proxy.faults = [Fault(method, lost, lose_answer=True)]
    proxied_store.put_file("large", large)
    assert proxy.faults[0].times == 0
    assert proxied_store.get("large") == large.read_bytes()


def test_an_upload_that_was_completed_unheard_is_not_lost(
    proxied_store: Store, proxy: S3Proxy, s3_bucket: str, large: Path
) -> None:
    """Some servers say that there is no such upload when they are asked again."""
    gone = Fault("POST", "uploadId", status=404, code="NoSuchUpload")
    proxy.faults = [Fault("POST", "uploadId", lose_answer=True), gone]
    proxied_store.put_file("large", large)
    assert gone.times == 0
    assert proxied_store.get("large") == large.read_bytes()
    assert num_uploads(s3_bucket) == 0


def test_an_upload_that_always_vanishes_is_tried_later(
    proxied_store: Store, proxy: S3Proxy, large: Path
) -> None:
    proxy.faults = [Fault("POST", "uploadId", times=99, status=404, code="NoSuchUpload")]
    with pytest.raises(StoreUnavailable, match="vanished"):
        proxied_store.put_file("large", large)


def test_an_upload_that_fails_leaves_nothing(
    s3_uri: str, s3_bucket: str, proxy: S3Proxy, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(s3_uri)
    proxy.faults = [Fault("PUT", "partNumber=2", times=9, status=503, code="SlowDown")]
    with pytest.raises(StoreUnavailable):
        store.put_file("large", large)
    assert store.head("large") is None
    assert num_uploads(s3_bucket) == 0


def test_a_bucket_that_is_deleted_in_the_middle_is_named(s3_uri: str, s3_bucket: str) -> None:
    store = open_store(s3_uri)
    store.put("a", b"x")
    assert store.head("missing") is None
    store.delete("a")
    shared_client(current_environment()).delete_bucket(Bucket=s3_bucket)
    ledger = Ledger(store)
    for use in (
        lambda: ledger.claim(0, Claim(1, "me", "a", ["1"])),
        lambda: ledger.write_part(0, 1, 1, [FinishedRow(0, "1", {}, None)]),
        lambda: ledger.write_shard(0, [ShardRow(0, 1, "1", "?", "v", {})]),
        lambda: ledger.commit(0, 1, [], []),
        lambda: ledger.committed_shards(),
        lambda: ledger.read_commit(0),
        lambda: ledger.read_manifest(),
    ):
        with pytest.raises(BucketNotFound, match=s3_bucket) as caught:
            use()
        assert not caught.value.retryable


def test_a_bucket_that_must_not_be_asked_for_is_asked_for_once(
    proxied_store: Store, proxy: S3Proxy, s3_bucket: str
) -> None:
    denied = Fault("HEAD", times=1, status=404)
    proxy.faults = [denied, Fault("HEAD", f"/{s3_bucket}", times=1, status=403)]
    assert [proxied_store.head(name) for name in ("a", "b", "c")] == [None] * 3
    assert len(proxy.seen) == 4


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "TokenRefreshRequired"])
def test_credentials_that_expire_in_the_middle_are_named(
    proxied_store: Store, proxy: S3Proxy, code: str
) -> None:
    proxied_store.put("a", b"x")
    proxy.faults = [
        Fault(method, times=9, status=400 if code == "ExpiredToken" else 403, code=code)
        for method in ("GET", "PUT")
    ]
    for use in (
        lambda: proxied_store.get("a"),
        lambda: put_if_absent_or_same(proxied_store, "b", b""),
        lambda: list(proxied_store.list()),
    ):
        with pytest.raises(StoreDenied, match=code) as caught:
            use()
        assert caught.value.reason is Reason.STORE_DENIED
    proxy.faults = []
    assert proxied_store.get("a") == b"x", "new ones are taken up"


def test_requests_retries_and_errors_are_counted(proxied_store: Store, proxy: S3Proxy) -> None:
    before = own_sums()
    proxy.faults = [Fault("PUT", "a", times=2, status=503, code="SlowDown")]
    proxied_store.put("a", b"x")
    proxy.faults = [Fault("GET", "a", times=99, status=403, code="AccessDenied")]
    with pytest.raises(StoreDenied):
        proxied_store.get("a")
    proxy.faults = []
    assert proxied_store.get_or_none("b") is None

    def counted(metric: Metric, *labels: str) -> float:
        key = metric.name, labels
        return own_sums().get(key, 0.0) - before.get(key, 0.0)

    assert counted(of_pods.STORE_REQUESTS, "PutObject") == 3
    assert counted(of_pods.STORE_RETRIES, "PutObject") == 2
    assert counted(of_pods.STORE_REQUESTS, "GetObject") == 2
    assert counted(of_pods.STORE_RETRIES, "GetObject") == 0
    assert counted(of_pods.STORE_ERRORS, "read", "StoreDenied") == 1
    assert counted(of_pods.STORE_ERRORS, "read", "ObjectNotFound") == 1
