"""From any state, with observations lost, repeated and reordered and any action failing: never two
unfinished worker Jobs, nothing made after a delete, and an end in the end.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.operator.actions import LookAtRun
from controller.operator.plan import plan
from controller.operator.seen import Observed, RunSeen
from controller.operator.telling import Pace
from neva.conditions import Phase
from tests.controller.operator.model_world import ModelWorld, Refused

PACE = Pace()
MAX_TURNS_TO_THE_END = 60
AGES = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))


class Operator:
    """Plans on what it is shown and acts on the world; remembers its last look at the run."""

    def __init__(self, world: ModelWorld) -> None:
        self.world = world
        self.run: RunSeen | None = None
        self.shown: list[Observed] = []

    def turn(
        self,
        *,
        ages: tuple[int, int, int] = (0, 0, 0),
        stop_after: int | None = None,
        undone: bool = False,
    ) -> None:
        """One turn.

        Args:
            ages: how many observations old the job, its children and its pods are that are planned
                on; each comes over a watch of its own.
            stop_after: the operator dies after so many actions.
            undone: the last action before that was lost; else only its answer was.
        """
        fresh = self.world.observe(self.run)
        if fresh is not None:
            self.shown.append(fresh)
        if not self.shown:
            return
        of_job, of_children, of_pods = (self.shown[max(0, len(self.shown) - 1 - a)] for a in ages)
        seen = replace(
            self.shown[-1], job=of_job.job, children=of_children.children, pods=of_pods.pods
        )
        for number, action in enumerate(plan(seen, PACE).actions):
            last = stop_after is not None and number >= stop_after
            if last and undone:
                break
            if isinstance(action, LookAtRun):
                ended = frozenset(child.uid for child in seen.children if child.ended)
                self.run = replace(self.world.look(), after=ended)
            else:
                try:
                    self.world.do(action, seen)
                except Refused:
                    break
            assert len(self.world.unfinished_workers()) <= 1
            if last:
                break
        if stop_after is not None:
            self.run = None  # a new operator remembers nothing


def happen(world: ModelWorld, event: str) -> None:
    verb, _, name = event.partition(" ")
    match verb:
        case "commit":
            world.commit_shard()
        case "suspend" | "resume":
            world.set_suspend(verb == "suspend")
        case "replicas":
            world.set_replicas(5)
        case "delete":
            world.delete_job()
        case "end":
            world.end_child(name)
        case "kill":
            world.end_child(name, "BackoffLimitExceeded")


@settings(max_examples=200)
@given(st.data())
def test_whatever_happens_it_is_safe_and_comes_to_an_end(data: st.DataObject) -> None:
    world = ModelWorld()
    operator = Operator(world)
    for _ in range(data.draw(st.integers(0, 25), label="turns")):
        if data.draw(st.booleans(), label="something happens"):
            happen(world, data.draw(st.sampled_from(sorted(world.events())), label="event"))
        world.now_s += data.draw(st.sampled_from([0.0, 1.0, 40.0]), label="seconds")
        operator.turn(
            ages=data.draw(AGES, label="ages"),
            stop_after=data.draw(st.none() | st.integers(0, 4), label="dies after"),
            undone=data.draw(st.booleans(), label="undone"),
        )
    world.set_suspend(False)
    for _ in range(MAX_TURNS_TO_THE_END):
        operator.turn()
        world.now_s += 31.0
        world.advance()
    if world.was_deleted:
        assert world.job is None
        assert not world.children
        return
    assert world.job is not None
    phase = world.job.status.get("phase")
    assert phase in (Phase.SUCCEEDED, Phase.FAILED)
    assert not [c for c in world.children.values() if c.at_work]
    if phase == Phase.SUCCEEDED:
        assert world.merged
    again = world.observe(operator.run)
    assert again is not None
    assert plan(again, PACE).actions == (), "at rest"


@given(st.data())
def test_without_failures_every_job_succeeds(data: st.DataObject) -> None:
    """Old observations and dying operators alone never make a job fail."""
    world = ModelWorld()
    operator = Operator(world)
    for _ in range(data.draw(st.integers(0, 25), label="turns")):
        world.now_s += data.draw(st.sampled_from([0.0, 1.0, 40.0]), label="seconds")
        operator.turn(
            ages=data.draw(AGES, label="ages"),
            stop_after=data.draw(st.none() | st.integers(0, 4), label="dies after"),
            undone=data.draw(st.booleans(), label="undone"),
        )
        if data.draw(st.booleans(), label="work is done"):
            world.advance()
    for _ in range(MAX_TURNS_TO_THE_END):
        operator.turn()
        world.now_s += 31.0
        world.advance()
    assert world.job is not None
    assert world.job.status["phase"] == Phase.SUCCEEDED


def test_the_same_observation_gives_the_same_plan() -> None:
    world = ModelWorld()
    seen = world.observe(None)
    assert seen is not None
    assert plan(seen, PACE) == plan(replace(seen), PACE)
