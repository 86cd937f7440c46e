"""A real Redis-protocol server for tests: the embedded Valkey of local runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from controller.local.broker import EmbeddedBroker


@pytest.fixture(scope="session")
def broker_url() -> Iterator[str]:
    """URL of a server of this session's own."""
    with EmbeddedBroker() as broker:
        yield broker.url


@pytest.fixture
def redis_client(broker_url: str) -> Iterator[redis.Redis]:
    """A client of an emptied server."""
    client = redis.Redis.from_url(broker_url)
    client.flushall()
    yield client
    client.close()
