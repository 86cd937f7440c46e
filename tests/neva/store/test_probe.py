from __future__ import annotations

import time
from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store import (
    AlreadyExists,
    BucketNotFound,
    Store,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    open_store,
    probe_conditional_put,
)
from neva.store.file import FileStore
from tests.fakes.memory_store import MemoryStore
from tests.support.s3_proxy import Fault, S3Proxy


def test_a_store_that_can_decide_a_race_passes_and_stays_clean(store: Store) -> None:
    probe_conditional_put(store)
    assert list(store.list()) == []


def test_a_directory_keeps_no_trace_of_the_probe(tmp_path: Path) -> None:
    probe_conditional_put(FileStore(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("PUT", drop_header="If-None-Match", times=9), "replaced the first"),
        (Fault("PUT", status=501, code="NotImplemented", times=9), "does not implement"),
    ],
)
def test_a_store_that_can_not_is_refused(
    proxied_store: Store, proxy: S3Proxy, fault: Fault, words: str
) -> None:
    proxy.faults = [fault]
    with pytest.raises(ConfigError, match=words) as caught:
        probe_conditional_put(proxied_store)
    assert caught.value.reason is Reason.UNSUPPORTED_STORE
    assert proxied_store.base_uri in caught.value.message
    assert ".neva-probe/" in caught.value.message
    assert list(proxied_store.list()) == []


class LooksFirst(MemoryStore):
    """Looks whether the object is there, and writes a little later."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        if if_absent and self.get_or_none(key) is not None:
            raise AlreadyExists(key)
        time.sleep(0.01)
        return super().put(key, data)


class AnswersNotModified(MemoryStore):
    """Decides as it should, and answers 304 instead of 412."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        try:
            return super().put(key, data, if_absent=if_absent)
        except AlreadyExists:
            raise StoreError("304 Not Modified") from None


class SaysNoAndWrites(MemoryStore):
    """Answers 412 after it has written."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        was_there = key in self.objects
        etag = super().put(key, data)
        if if_absent and was_there:
            raise AlreadyExists(key)
        return etag


@pytest.mark.parametrize(
    ("store", "words"),
    [
        (LooksFirst(), "PUTs at the same time [2-8] won instead of one"),
        (AnswersNotModified(), "in its own way: 304"),
        (SaysNoAndWrites(), "changed the object all the same"),
    ],
)
def test_a_store_that_decides_otherwise_is_refused(store: MemoryStore, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        probe_conditional_put(store)
    assert caught.value.reason is Reason.UNSUPPORTED_STORE
    assert store.objects == {}


def test_an_answer_304_to_a_conditional_put_is_an_error_and_no_loss(
    proxied_store: Store, proxy: S3Proxy
) -> None:
    proxied_store.put("a", b"theirs")
    proxy.faults = [Fault("PUT", status=304)]
    with pytest.raises(StoreError, match="304") as caught:
        proxied_store.put("a", b"mine", if_absent=True)
    assert not isinstance(caught.value, AlreadyExists)


def test_an_overload_during_the_probe_is_no_refusal(
    proxied_store: Store, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = open_store(proxied_store.base_uri)
    proxy.faults = [Fault("PUT", path="-0", times=9, status=503, code="SlowDown")]
    with pytest.raises(StoreUnavailable):
        probe_conditional_put(store)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("PUT", status=403, code="AccessDenied"), StoreDenied),
        (Fault("PUT", status=503, code="SlowDown", times=9), StoreUnavailable),
    ],
)
def test_a_prefix_that_can_not_be_written_is_named(
    s3_uri: str,
    proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    error: type[StoreError],
) -> None:
    proxy.faults = [fault]
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(error, match=f"{s3_uri} can't be written"):
        probe_conditional_put(open_store(s3_uri))


class Denies(MemoryStore):
    """Lets nobody write."""

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        raise StoreDenied("no right to write")

    def delete(self, key: str) -> None:
        raise AssertionError("nothing is there to be deleted")


def test_where_nothing_could_be_written_nothing_is_cleaned_up() -> None:
    with pytest.raises(StoreDenied, match="can't be written: no right"):
        probe_conditional_put(Denies())


def test_a_lost_answer_does_not_fail_the_probe(proxied_store: Store, proxy: S3Proxy) -> None:
    proxy.faults = [Fault("PUT", lose_answer=True)]
    probe_conditional_put(proxied_store)


def test_a_store_whose_objects_can_not_be_deleted_passes(
    proxied_store: Store, proxy: S3Proxy
) -> None:
    proxy.faults = [Fault("DELETE", status=403, code="AccessDenied")]
    probe_conditional_put(proxied_store)


def test_a_missing_bucket_is_named(s3_endpoint: str) -> None:
    with pytest.raises(BucketNotFound, match="no-such-bucket"):
        probe_conditional_put(open_store("s3://no-such-bucket/out/"))


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(StoreError, match=r"out.*can't be written"):
        probe_conditional_put(FileStore(tmp_path / "out"))
