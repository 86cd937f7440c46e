"""Who gets an attempt, and which attempts are held against the rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from neva.lease import Lease
from neva.ledger import Claim, Ledger, ShardState, layout
from neva.store import AlreadyExists, Store, StoreUnavailable
from tests.worker.shard_bench import Bench, FakeAnswerer
from worker.config import WorkerConfig
from worker.heartbeat import Heartbeat
from worker.shard import Outcome


@pytest.fixture
def bench(store: Store, redis_client: redis.Redis, tmp_path: Path) -> Bench:
    return Bench(store, redis_client, tmp_path)


class SlowLedger(Ledger):
    """Lets others do something while a claim is on its way."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def claim(self, number: int, claim: Claim) -> bool:
        self.meanwhile()
        return super().claim(number, claim)


def test_copies_of_one_message_make_one_attempt(bench: Bench, store: Store) -> None:
    """More than max_attempts at once, else the last would take the others for dead."""
    copies = [bench.worker(FakeAnswerer()) for _ in range(5)]
    outcomes: list[Outcome] = []
    ledger = SlowLedger(store)
    ledger.meanwhile = lambda: outcomes.extend(copy.run(bench.plan, None) for copy in copies)
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.COMMITTED
    assert outcomes == [Outcome.NOTHING_TO_DO] * 5
    assert bench.answers() == [(str(n), 1) for n in range(6)]


def test_a_worker_that_was_too_slow_to_claim_leaves_the_shard_and_its_lease(
    bench: Bench, store: Store
) -> None:
    ledger = SlowLedger(store)
    numbers = iter((1, 2))
    ledger.meanwhile = lambda: bench.killed_attempt(next(numbers), ["0"], [])
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.NOTHING_TO_DO
    assert bench.leases.get(0) is None


def test_a_shard_that_nobody_has_begun_is_not_looked_at(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Store, key: str) -> None:
        raise AssertionError(f"{key} was asked for")

    monkeypatch.setattr(type(store), "head", fail)
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED


class WatchedLedger(Ledger):
    """Something happens while a shard's past is read."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def shard_state(self, number: int) -> ShardState:
        state = super().shard_state(number)
        self.meanwhile()
        return state


def test_an_attempt_whose_beat_comes_while_its_shard_is_looked_at_is_not_taken_for_dead(
    bench: Bench, store: Store
) -> None:
    bench.killed_attempt(1, ["0"], [])
    ledger = WatchedLedger(store)
    ledger.meanwhile = lambda: bench.leases.beat(0, Lease(1, 0, 0))
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.NOTHING_TO_DO
    assert bench.leases.get(0) == Lease(1, 0, 0), "still the other's"
    assert bench.ledger.shard_state(0).attempts == (1,)


def test_a_shard_whose_lease_ran_out_while_it_was_looked_at_is_looked_at_again(
    bench: Bench, store: Store
) -> None:
    bench.killed_attempt(1, ["0"], [])
    ledger = WatchedLedger(store)
    num_looks = 0

    def expire() -> None:
        nonlocal num_looks
        num_looks += 1
        if num_looks == 1:
            bench.leases.purge()

    ledger.meanwhile = expire
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.COMMITTED
    assert num_looks == 2


def test_who_looks_can_not_end_the_lease_of_another_who_looks(bench: Bench, store: Store) -> None:
    """The first one's ran out, and another began to look."""
    bench.killed_attempt(1, ["0"], [])
    other = Lease(0, 0, 0, "other")

    def expire_and_look() -> None:
        bench.leases.purge()
        assert bench.leases.take(0, other)

    ledger = WatchedLedger(store)
    ledger.meanwhile = expire_and_look
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.NOTHING_TO_DO
    assert bench.leases.get(0) == other, "neither renewed nor released"
    assert bench.ledger.shard_state(0).attempts == (1,)


class LateLedger(Ledger):
    """Claims, and the answer comes late: something happens before."""

    meanwhile: Callable[[], object] = staticmethod(lambda: None)

    def claim(self, number: int, claim: Claim) -> bool:
        claimed = super().claim(number, claim)
        if claim.attempt == 1:
            self.meanwhile()
        return claimed


def test_an_attempt_that_another_overtook_while_it_was_claimed_does_not_begin(
    bench: Bench, store: Store
) -> None:
    def expire_and_overtake() -> None:
        bench.leases.purge()
        bench.killed_attempt(2, ["0"], [])

    ledger = LateLedger(store)
    ledger.meanwhile = expire_and_overtake
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 3) for n in range(6)]
    assert bench.ledger.shard_state(0).released == {1}
    assert not list(store.list("shards/00000/attempts/0001/part-"))


def test_an_attempt_whose_lease_ran_out_while_it_was_claimed_goes_on_when_nobody_came(
    bench: Bench, store: Store
) -> None:
    ledger = LateLedger(store)
    ledger.meanwhile = lambda: bench.leases.purge()
    assert bench.worker(FakeAnswerer(), ledger).run(bench.plan, None) is Outcome.COMMITTED
    assert bench.answers() == [(str(n), 1) for n in range(6)]


class ForgetfulLedger(Ledger):
    """Claims, but the answer is lost; or the claim comes to nothing, or arrives much later."""

    num_failures = 1
    first_attempt = 1
    claims_at_once = True
    late: Claim | None = None

    def claim(self, number: int, claim: Claim) -> bool:
        if not self.num_failures or claim.attempt < self.first_attempt:
            return super().claim(number, claim)
        self.num_failures -= 1
        if self.claims_at_once:
            super().claim(number, claim)
        self.late = claim
        raise StoreUnavailable("no answer")


@pytest.mark.parametrize("claims_at_once", [True, False])
def test_a_claim_whose_answer_was_lost_is_not_counted_against_the_rows(
    bench: Bench, store: Store, claims_at_once: bool
) -> None:
    """Whoever comes next, this child or another one."""
    for number in range(1, 5):  # more often than a row may kill
        ledger = ForgetfulLedger(store)
        ledger.claims_at_once, ledger.first_attempt = claims_at_once, number
        with pytest.raises(StoreUnavailable):
            bench.worker(FakeAnswerer(), ledger).run(bench.plan, None)
        assert bench.leases.get(0) is None
        assert ledger.late is not None
        with contextlib.suppress(AlreadyExists):
            store.put(layout.claim(0, ledger.late.attempt), ledger.late.to_json(), if_absent=True)
    assert len(bench.ledger.shard_state(0).released) == 4
    assert bench.run(FakeAnswerer()) is Outcome.COMMITTED
    assert all(isinstance(attempt, int) for _, attempt in bench.answers()), "no row was given up"


def test_a_claim_that_stays_unsure_is_settled_with_the_next_message(
    bench: Bench, store: Store
) -> None:
    ledger = ForgetfulLedger(store)
    ledger.num_failures = 6
    worker = bench.worker(FakeAnswerer(), ledger)
    with pytest.raises(StoreUnavailable):
        worker.run(bench.plan, None)
    assert not bench.ledger.shard_state(0).released
    assert worker.run(bench.plan, None) is Outcome.COMMITTED
    assert bench.ledger.shard_state(0).released == {1}


@pytest.mark.parametrize("begun", [True, False])
def test_a_child_that_waits_for_a_store_that_hangs_gives_signs_of_life(
    bench: Bench, store: Store, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    """Each request takes minutes. Else the child is killed as stuck, which counts."""
    events: list[str] = []
    where, name = (Heartbeat, "alive") if begun else (WorkerConfig, "still_working_on")
    monkeypatch.setattr(where, name, lambda *_: events.append("sign of life"))

    def hang(*_: object) -> NoReturn:
        events.append("request")
        raise StoreUnavailable("no answer for minutes")

    ledger = Ledger(store)
    for request in ("write_part", "release", *([] if begun else ["claim"])):
        monkeypatch.setattr(ledger, request, hang)
    with pytest.raises(StoreUnavailable):
        bench.worker(FakeAnswerer(), ledger).run(bench.plan, None)
    assert events.count("request") == 6
    assert ("request", "request") not in list(pairwise(events))
