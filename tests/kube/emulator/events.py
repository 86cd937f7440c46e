"""Events are stored as v1 has them; events.k8s.io/v1 is another view of the same objects."""

from __future__ import annotations

from typing import Any

from tests.kube.emulator.resources import Obj

# v1 -> events.k8s.io/v1
_NAMES = {
    "involvedObject": "regarding",
    "message": "note",
    "count": "deprecatedCount",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "source": "deprecatedSource",
    "reportingComponent": "reportingController",
}
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}


def from_core(event: Obj) -> Obj:
    """A v1 Event as events.k8s.io/v1."""
    renamed = {_NAMES.get(name, name): value for name, value in event.items()}
    return {**renamed, "apiVersion": "events.k8s.io/v1"} if "kind" in event else renamed


def to_core(body: Any) -> Any:
    """An events.k8s.io/v1 Event, or a merge patch of one, as v1; JSON patches stay."""
    if not isinstance(body, dict):
        return body
    renamed = {_BACK.get(name, name): value for name, value in body.items()}
    if "apiVersion" in renamed:
        renamed["apiVersion"] = "v1"
    return renamed
