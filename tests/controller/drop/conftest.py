"""A watched prefix on a moto server, and a count of what it was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from controller.drop.bucket import Bucket
from neva.store.s3_client import current_environment, shared_client


@pytest.fixture
def client(s3_endpoint: str) -> Any:
    return shared_client(current_environment())


@pytest.fixture
def watched(s3_bucket: str) -> Bucket:
    """An empty watched prefix."""
    return Bucket(f"s3://{s3_bucket}/in/")


@pytest.fixture
def calls(client: Any) -> Iterator[Counter[str]]:
    """How often each operation was asked for, from now on."""
    counted: Counter[str] = Counter()

    def count(model: Any, **_: Any) -> None:
        counted[model.name] += 1

    client.meta.events.register("before-call.s3", count, unique_id="count")
    yield counted
    client.meta.events.unregister("before-call.s3", unique_id="count")
