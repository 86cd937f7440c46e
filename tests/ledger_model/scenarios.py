"""For each mutant of `mutants.py` the shortest story in which it does harm.

The machine finds most by itself (`make mutants`); told here so that they take no search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.ledger_model.scheduler import Fate
from tests.ledger_model.world import Setup, World


@dataclass(frozen=True)
class Scenario:
    """A mutant's name, the run, and what happens before everything runs to its end."""

    mutant: str
    happens: Callable[[World], object]
    setup: Setup = field(default_factory=Setup)


def play(scenario: Scenario) -> None:
    """Raises Violation when it does harm."""
    with World(scenario.setup) as world:
        scenario.happens(world)
        world.finish()


def _begin(world: World, *workers: str) -> None:
    """All messages are sent, and the workers wait for one."""
    world.start("c0")
    world.run_to("c0", "nothing")
    for name in workers:
        world.start(name)


def _killed_in_the_middle(world: World) -> None:
    """With one part written, and one more row computed."""
    _begin(world, "w0")
    world.run_to("w0", "put", "*/part-*")
    world.step("w0")
    world.run_to("w0", "compute")
    world.kill("w0")


def _queue_lost(world: World) -> None:
    _begin(world)
    while world.broker.waiting:
        world.lose_message()


def _handed_over_at(world: World, verb: str, key: str) -> None:
    """w0 stands there while its lease expires and w1 gets its message."""
    _begin(world, "w0")
    world.run_to("w0", verb, key)
    world.hand_over("w0", "w1")


def _learns_that_it_lost(world: World) -> None:
    _handed_over_at(world, "compute", "*")
    for _ in range(3):
        world.step("w0", heartbeat=True)
    world.run_to("w0", "nothing")


def _claims_late(world: World) -> None:
    _handed_over_at(world, "put", "*/claim.json")
    world.step("w0")


def _commits_late(world: World) -> None:
    _handed_over_at(world, "put", "*/commit.json")
    world.run_to("w1", "ack")
    world.step("w0")


def _tampered(world: World) -> None:
    _begin(world, "w0")
    world.run_to("w0", "pop")
    world.step("w0")
    world.run_to("w0", "nothing")
    assert world.tamper(0)


def _drained(world: World) -> None:
    """With one row computed, but not yet written."""
    _begin(world, "w0")
    world.run_to("w0", "compute")
    world.step("w0")
    world.drain("w0")


def _claims_unheard(world: World) -> None:
    _begin(world, "w0")
    world.run_to("w0", "put", "*/claim.json")
    world.step("w0", Fate.LOST)
    world.send_again(0)


def _drained_behind_a_stale_listing(world: World) -> None:
    """Which lacks the release, while the next worker looks."""
    _drained(world)
    world.run_to("w0", "nothing")
    world.store.num_hidden = 1
    world.start("w1")
    world.run_to("w1", "ack")


def _copies_at_once(world: World) -> None:
    """Three workers have looked for a lease, then one after the other looks into the ledger."""
    _begin(world)
    for name in ("w0", "w1", "w2"):
        world.start(name)
        world.run_to(name, "get", "inputs/*")
        world.send_again(0)
    for name in ("w0", "w1", "w2"):
        world.run_to(name, "compute")


def _nothing(world: World) -> None:
    pass


_POISON = Setup(kills=frozenset("2"))

SCENARIOS = (
    Scenario("done-when-redis-says-so", _killed_in_the_middle),
    Scenario("lost-messages-stay-lost", _queue_lost),
    Scenario("lost-lease-not-heeded", _learns_that_it_lost),
    Scenario("claim-not-conditional", _claims_late),
    Scenario("finished-rows-again", _killed_in_the_middle),
    Scenario("earlier-parts-not-committed", _killed_in_the_middle),
    Scenario("commit-not-conditional", _commits_late),
    Scenario("merge-without-check", _tampered),
    Scenario("attempts-not-counted", _nothing, _POISON),
    Scenario("orderly-ends-counted", _drained, Setup(num_rows=2, flush_rows=1, max_attempts=1)),
    Scenario("living-attempts-counted", _copies_at_once, Setup(num_rows=1)),
    Scenario("unsure-claims-counted", _claims_unheard, Setup(num_rows=1, max_attempts=1)),
    Scenario(
        "state-from-a-listing",
        _drained_behind_a_stale_listing,
        Setup(num_rows=2, flush_rows=1, max_attempts=1),
    ),
    Scenario("answers-of-a-batch", _killed_in_the_middle),
    Scenario("drain-without-flush", _drained, Setup(flush_rows=3)),
    Scenario("drain-without-release", _drained),
    Scenario("whole-shards-retried", _nothing, _POISON),
    Scenario("errors-without-record", _nothing, _POISON),
)
