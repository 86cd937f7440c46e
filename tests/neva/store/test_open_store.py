from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.store import open_object, open_store


@pytest.mark.parametrize(
    ("uri", "base_uri"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/a/b", "s3://bucket/a/b/"),
        ("s3://bucket/a%20b/ü?x#y/", "s3://bucket/a%20b/ü?x#y/"),
        ("file:///data/out", "file:///data/out/"),
        ("file:///data/a%20b/", "file:///data/a%20b/"),
        ("file:///data/a b#c?d", "file:///data/a%20b%23c%3Fd/"),
        ("file:/data", "file:///data/"),
        ("file://localhost/data", "file:///data/"),
        ("file:///", "file:///"),
        ("/data/100%25", "file:///data/100%2525/"),
    ],
)
def test_a_uri_or_a_path_names_the_base(uri: str, base_uri: str) -> None:
    store = open_store(uri)
    assert store.base_uri == base_uri
    assert open_store(store.base_uri).base_uri == base_uri


def test_a_relative_path_is_taken_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("out/run")
    monkeypatch.chdir("/")
    store.put("a", b"x")
    assert (tmp_path / "out" / "run" / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///key", "gs://bucket/x", "http://h/x", "file://h/x", ""]
)
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(ConfigError):
        open_store(uri)


@pytest.mark.parametrize(
    ("uri", "base_uri", "key"),
    [
        ("s3://bucket/prompts.jsonl", "s3://bucket/", "prompts.jsonl"),
        ("s3://bucket/a b/p%20q.jsonl", "s3://bucket/a b/", "p%20q.jsonl"),
        ("file:///data/p%20q.jsonl", "file:///data/", "p q.jsonl"),
        ("/data/p%20q.jsonl", "file:///data/", "p%20q.jsonl"),
    ],
)
def test_an_object_is_opened_by_its_uri(uri: str, base_uri: str, key: str) -> None:
    store, name = open_object(uri)
    assert (store.base_uri, name) == (base_uri, key)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3://bucket/a/", "/data/", "/"])
def test_a_directory_is_no_object(uri: str) -> None:
    with pytest.raises(ConfigError, match="names no file"):
        open_object(uri)


@pytest.mark.parametrize("uri", ["s3://bucket/a", "/data/a"])
def test_a_store_can_be_sent_to_another_process(uri: str) -> None:
    store = open_store(uri)
    assert pickle.loads(pickle.dumps(store)).base_uri == store.base_uri
