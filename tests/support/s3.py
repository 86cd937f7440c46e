"""Real object stores for tests: a moto server over HTTP, a local directory, and your own endpoint.

`store_base_uri` runs a test once per store. NEVA_TEST_S3_URI=s3://bucket/prefix/ adds the store
that the AWS_ variables of the shell lead to; everything written there is deleted again.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.s3_process import s3_process
from neva.store import Store, open_store
from neva.store.s3_client import current_environment, shared_client

OWN_ENDPOINT_VARIABLE = "NEVA_TEST_S3_URI"
_STORE_KINDS = ["file", "moto", *(["own"] if OWN_ENDPOINT_VARIABLE in os.environ else [])]


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """URL of an S3 server of this session's own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    with s3_process(environment) as url:
        yield url


@pytest.fixture
def s3_endpoint(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The moto server's URL, with the environment that leads boto3 (and child processes) to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return moto_endpoint


@pytest.fixture
def s3_bucket(s3_endpoint: str) -> str:
    """Name of a new, empty bucket on the moto server."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    shared_client(current_environment()).create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_uri(s3_bucket: str) -> str:
    """A base URI in a new bucket on the moto server."""
    return f"s3://{s3_bucket}/run one/"


@pytest.fixture(params=_STORE_KINDS)
def store_base_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty base URI of every kind of store in turn."""
    if request.param == "file":
        return (tmp_path / "run one").as_uri() + "/"
    return str(request.getfixturevalue("s3_uri" if request.param == "moto" else "own_uri"))


@pytest.fixture(params=[kind for kind in _STORE_KINDS if kind != "file"])
def bucket_uri(request: pytest.FixtureRequest) -> str:
    """An empty base URI of every S3 server in turn."""
    return str(request.getfixturevalue("s3_uri" if request.param == "moto" else "own_uri"))


@pytest.fixture
def own_uri() -> Iterator[str]:
    """An empty base URI on your own endpoint, emptied again."""
    base = f"{os.environ[OWN_ENDPOINT_VARIABLE].rstrip('/')}/{uuid.uuid4().hex}/"
    yield base
    store = open_store(base)
    for info in list(store.list()):
        store.delete(info.key)


@pytest.fixture
def store(store_base_uri: str) -> Store:
    """An empty store of every kind in turn."""
    return open_store(store_base_uri)
