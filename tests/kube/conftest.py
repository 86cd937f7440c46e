"""What the emulator's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kube.fixtures import Cluster
from tests.kube.http import Http


@pytest.fixture
def http(emulated_cluster: Cluster) -> Iterator[Http]:
    assert emulated_cluster.emulator is not None
    client = Http(emulated_cluster.emulator.url)
    yield client
    client.close()
