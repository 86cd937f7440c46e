"""Of several operators one works, and a new one starts only when the old one surely stopped."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controller.operator.api import ApiError, Json
from controller.operator.leader import DURATION_S, RENEW_DEADLINE_S, RETRY_S, Elector
from controller.operator.service import Service
from tests.controller.operator.played import CONFIG, PlayedRuns, Truth


class LeaseServer:
    """One Lease with its resource version; `down` refuses everything."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.version = 0
        self.down = False

    def get_lease(self, namespace: str, name: str) -> Json | None:
        self._check()
        return copy.deepcopy(self.lease)

    def create_lease(self, lease: Json) -> Json:
        self._check()
        if self.lease is not None:
            raise ApiError(409, "exists")
        return self._store(lease)

    def replace_lease(self, lease: Json) -> Json:
        self._check()
        assert self.lease is not None
        if lease["metadata"]["resourceVersion"] != str(self.version):
            raise ApiError(409, "conflict")
        return self._store(lease)

    def _store(self, lease: Json) -> Json:
        self.version += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**lease, "metadata": metadata}
        return copy.deepcopy(self.lease)

    def _check(self) -> None:
        if self.down:
            raise ApiError(0, "no route")


class Candidates:
    def __init__(self, count: int = 2) -> None:
        self.server = LeaseServer()
        self.now_s = 100.0
        api: Any = self.server
        self.electors = [
            Elector(api, "ns", "lease", f"op-{n}", lambda: self.now_s, lambda: self.now_s)
            for n in range(count)
        ]

    def after(self, seconds: float, who: int) -> bool:
        self.now_s += seconds
        return self.electors[who].step()


def test_one_of_two_leads() -> None:
    both = Candidates()
    assert both.after(0, 0)
    assert not both.after(0, 1)
    for _ in range(10):
        assert both.after(RETRY_S / 2, 0)
        assert not both.after(RETRY_S / 2, 1)


def test_the_other_leads_when_the_first_is_silent_and_not_before() -> None:
    both = Candidates()
    both.after(0, 0)
    assert not both.after(1, 1)
    assert not both.after(DURATION_S - 1, 1)
    assert not both.electors[0].leading, "the first has stopped by then"
    assert both.after(1, 1)
    assert not both.after(0, 0)


def test_a_leader_that_cant_renew_stops_before_its_lease_is_over() -> None:
    both = Candidates()
    both.after(0, 0)
    both.server.down = True
    assert both.after(RENEW_DEADLINE_S - 1, 0)
    assert not both.after(1, 0)
    assert RENEW_DEADLINE_S < DURATION_S


def test_a_leader_whose_lease_was_taken_stops_at_once() -> None:
    both = Candidates()
    both.after(0, 0)
    assert both.server.lease is not None
    both.server._store({**both.server.lease, "spec": {"holderIdentity": "op-1"}})
    assert not both.after(1, 0)


def test_a_released_lease_is_taken_at_once() -> None:
    both = Candidates()
    both.after(0, 0)
    both.electors[0].release()
    assert not both.electors[0].leading
    assert both.after(0, 1)


def test_the_clock_of_another_machine_does_not_matter() -> None:
    both = Candidates()
    both.after(0, 0)
    assert both.server.lease is not None
    spec = {**both.server.lease["spec"], "renewTime": "1999-01-01T00:00:00.000000Z"}
    both.server._store({**both.server.lease, "spec": spec})
    assert not both.after(0, 1), "only its own watching counts"


def test_an_election_that_breaks_down_ends_the_acting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the Lease would run out unseen, and two operators act."""
    api: Any = LeaseServer()
    service = Service(CONFIG, api, PlayedRuns(Truth(), lambda: 0.0))
    steps = iter([True])
    monkeypatch.setattr(Elector, "step", lambda elector: next(steps))
    monkeypatch.setattr("controller.operator.service.RETRY_S", 0.0)
    ended = list[str]()
    with pytest.raises(StopIteration):
        service._elect(lambda: ended.append("told"))
    assert ended == ["told"]
    assert service._lost
    assert service._queue._closed
