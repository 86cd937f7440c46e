"""The queue on servers that a Sentinel watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from kombu.exceptions import OperationalError

from neva import queue
from neva.lease import Lease, Leases
from tests.support.sentinel import SentinelSet

pytestmark = pytest.mark.timeout(120)


def test_after_a_failover_the_same_clients_talk_to_the_new_master(tmp_path: Path) -> None:
    with (
        SentinelSet(tmp_path) as servers,
        servers.server("replica") as replica,
        queue.connect(servers.url) as client,
        queue.make_app(servers.url, "run") as app,
    ):
        leases = Leases(client, "run", ttl_s=60)
        assert leases.beat(0, Lease(1, 0, 0)) is None
        queue.send(app, queue.ShardMessage("run", 0))
        client.zadd("unacked_index", {"tag": 1.0})
        assert client.wait(1, 5000) == 1
        servers.fail_over()

        assert _tried(lambda: leases.beat(0, Lease(1, 3, 0)))
        queue.prolong(client, "tag")
        _tried(lambda: queue.send(app, queue.ShardMessage("run", 1)))

        assert replica.get("neva:run:lease:0") == b"1 3 0"
        score = replica.zscore("unacked_index", "tag")
        assert isinstance(score, float)
        assert score > 1.0
        assert queue.depth(client, "run") == queue.depth(replica, "run")
        assert queue.depth(replica, "run").ready == 2


def _tried(act: Callable[[], Any]) -> Any:
    """Whatever it answers once the new master is known; in between the broker may be away."""
    deadline_s = time.monotonic() + 30
    while True:
        try:
            return act()
        except (redis.ConnectionError, OperationalError):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
