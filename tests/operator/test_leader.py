"""Two operators of one release: one works, and the other goes on where it stopped."""

from __future__ import annotations

import signal
import time

import kubernetes
import pytest

from tests.operator.bench import Bench
from tests.operator.test_course import check_answers

pytestmark = [pytest.mark.e2e, pytest.mark.operator, pytest.mark.timeout(900)]


def holder(bench: Bench) -> str:
    leases = kubernetes.client.CoordinationV1Api(bench.client)
    found = leases.list_namespaced_lease(bench.namespace).items
    return "".join(str(lease.spec.holder_identity or "") for lease in found)


def test_the_next_operator_goes_on_at_once_when_the_first_hands_over(bench: Bench) -> None:
    first, leader = bench.operator, bench.wait("a leader", lambda: holder(bench))
    assert first is not None
    second = bench.start_operator()
    bench.apply(bench.manifest())
    bench.wait("some rows", lambda: bench.num_parts("kitchen") >= 2)
    assert holder(bench) == leader, "the second stands by"
    first.send_signal(signal.SIGTERM)
    stopped_s = time.monotonic()
    assert first.wait(60) == 0
    bench.wait("another leader", lambda: holder(bench) not in ("", leader))
    assert time.monotonic() - stopped_s < 25, "without waiting for the Lease's 30 s"
    assert second.poll() is None
    assert bench.wait_phase("kitchen", "Succeeded", "Failed")["phase"] == "Succeeded"
    check_answers(bench, "kitchen")
    told = [event["message"].split(":")[0] for event in bench.events()]
    assert [told.count(phase) for phase in ("Preparing", "Finishing", "Succeeded")] == [1, 1, 1]
