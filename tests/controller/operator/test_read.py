"""What is read out of the cluster's objects."""

from __future__ import annotations

from typing import Any

import pytest

from controller.operator.read import read_pod

RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
WAITING = {"waiting": {"reason": "ContainerCreating"}}
ENDED = {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}


def pod(phase: str, state: dict[str, Any] | None, **status: str) -> dict[str, Any]:
    statuses = [] if state is None else [{"name": "worker", "state": state}]
    labels = {"batch.kubernetes.io/job-name": "a-workers-1", "neva-batch.dev/role": "worker"}
    metadata = {"name": "a-workers-1-x", "uid": "u", "labels": labels}
    return {
        "metadata": metadata,
        "status": {"phase": phase, "containerStatuses": statuses, **status},
    }


@pytest.mark.parametrize(
    ("body", "running", "alive", "refused"),
    [
        (pod("Pending", None), False, True, None),
        (pod("Pending", WAITING), False, True, None),
        (pod("Running", RUNNING), True, True, None),
        (pod("Failed", ENDED), False, False, None),
        # The device plugin had no GPU after all; the pod never had a container.
        (
            pod("Failed", None, reason="UnexpectedAdmissionError", message="Allocate failed"),
            False,
            False,
            "UnexpectedAdmissionError: Allocate failed",
        ),
        (pod("Failed", WAITING, reason="Evicted"), False, False, "Evicted"),
        # Its node was lost: nobody says any more what became of the container.
        (pod("Failed", RUNNING), False, False, "no reason given"),
    ],
)
def test_a_failed_pod_is_over_whatever_its_container_last_was(
    body: dict[str, Any], running: bool, alive: bool, refused: str | None
) -> None:
    seen = read_pod(body)
    assert seen is not None
    assert (seen.running, seen.alive, seen.refused) == (running, alive, refused)
    assert seen.failed is not alive
