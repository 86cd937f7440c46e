from __future__ import annotations

from collections.abc import Iterator

import pytest

from neva.store import Store, open_store
from tests.support.s3_proxy import S3Proxy, s3_proxy


@pytest.fixture(scope="session")
def running_proxy(moto_endpoint: str) -> Iterator[S3Proxy]:
    with s3_proxy(moto_endpoint) as proxy:
        yield proxy


@pytest.fixture
def proxy(
    running_proxy: S3Proxy, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Proxy]:
    """A proxy before the moto server, where the environment now leads."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", running_proxy.url)
    running_proxy.seen.clear()
    yield running_proxy
    running_proxy.faults = []


@pytest.fixture
def proxied_store(proxy: S3Proxy, s3_uri: str) -> Store:
    """An empty store behind the proxy."""
    return open_store(s3_uri)
