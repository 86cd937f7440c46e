"""Plans of the operator, and what tests look at in them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from controller.operator.actions import (
    Action,
    Plan,
    WriteStatus,
)
from controller.operator.plan import plan
from controller.operator.seen import Observed
from controller.operator.telling import Pace

PACE = Pace()
A = TypeVar("A", bound=Action)


def decide(observed: Observed, *, looked_late: bool = True) -> Plan:
    """The plan; unless told otherwise, the run was looked at after every child's end."""
    if observed.run is not None and looked_late:
        ended = frozenset(child.uid for child in observed.children)
        observed = replace(observed, run=replace(observed.run, after=ended))
    return plan(observed, PACE)


def only(planned: Plan, kind: type[A]) -> A:
    found = [action for action in planned.actions if isinstance(action, kind)]
    assert len(found) == 1, planned.actions
    return found[0]


def status_of(planned: Plan) -> dict[str, Any]:
    return dict(only(planned, WriteStatus).status)


def condition(planned: Plan, kind: str) -> tuple[str, str, str]:
    found = {c["type"]: c for c in status_of(planned)["conditions"]}[kind]
    return found["status"], found["reason"], found["message"]


def has(planned: Plan, kind: type[Action]) -> bool:
    return any(isinstance(action, kind) for action in planned.actions)
