"""The world as a state machine: hypothesis chooses what happens next."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from tests.ledger_model.scheduler import Fate
from tests.ledger_model.world import CONTROLLERS, WORKERS, Setup, World

EXAMPLES_VARIABLE = "NEVA_MODEL_EXAMPLES"
NUM_EXAMPLES = int(os.environ.get(EXAMPLES_VARIABLE, "200"))
PROCESSES = st.sampled_from((*WORKERS, *CONTROLLERS))
ROWS = st.sampled_from("01234")
NUMBERS = st.integers(0, 5)
# Where something worth killing for is about to happen.
PLACES = st.sampled_from(
    [
        ("put", "*/claim.json"),
        ("put", "*/part-*"),
        ("put", "*/commit.json"),
        ("put", "*/release.json"),
        ("put", "inputs/*"),
        ("put", "manifest.json"),
        ("put", "outputs.jsonl"),
        ("put", "errors.jsonl"),
        ("head", "*/commit.json"),
        ("take", "*"),
        ("beat", "*"),
        ("compute", "*"),
        ("pop", "*"),
        ("ack", "*"),
        ("send", "*"),
    ]
)
# Where a worker has a shard.
AT_WORK = st.sampled_from(
    [
        ("put", "*/claim.json"),
        ("put", "*/part-*"),
        ("put", "*/commit.json"),
        ("compute", "*"),
        ("compute", "*"),
    ]
)


class LedgerMachine(RuleBasedStateMachine):
    """Anything may happen in any order; then everything runs to its end."""

    world: World
    num_runs = 0

    @initialize(
        num_rows=st.sampled_from([1, 4, 5, 9]),
        poison=st.dictionaries(ROWS, st.sampled_from(["kills", "hangs"]), max_size=2),
        flush_rows=st.integers(1, 3),
        max_attempts=st.integers(1, 3),
        is_begun=st.booleans(),
    )
    def begin(
        self,
        num_rows: int,
        poison: dict[str, str],
        flush_rows: int,
        max_attempts: int,
        is_begun: bool,
    ) -> None:
        kills = frozenset(row for row, how in poison.items() if how == "kills")
        hangs = frozenset(row for row, how in poison.items() if how == "hangs")
        self.world = World(Setup(num_rows, kills, hangs, flush_rows, max_attempts))
        self.world.__enter__()
        self.world.start("c0")
        self.world.start("w0")
        if is_begun:
            self.world.run_to("c0", "nothing")

    @rule(name=PROCESSES)
    def start(self, name: str) -> None:
        self.world.start(name)

    @rule(name=PROCESSES, num_steps=st.integers(1, 12))
    def go_on(self, name: str, num_steps: int) -> None:
        for _ in range(num_steps):
            self.world.step(name)

    @rule(name=PROCESSES, place=PLACES)
    def run_to(self, name: str, place: tuple[str, str]) -> None:
        self.world.run_to(name, *place)

    @rule(name=PROCESSES)
    def run_on(self, name: str) -> None:
        """Until it waits for somebody else."""
        self.world.run_to(name, "nothing", num_steps=150)

    @rule(name=PROCESSES, fate=st.sampled_from([fate for fate in Fate if fate is not Fate.DONE]))
    def disturb(self, name: str, fate: Fate) -> None:
        self.world.step(name, fate)

    @rule(name=PROCESSES, place=PLACES, fate=st.sampled_from(list(Fate)))
    def disturb_at(self, name: str, place: tuple[str, str], fate: Fate) -> None:
        if self.world.run_to(name, *place):
            self.world.step(name, fate)

    @rule(
        name=st.sampled_from(WORKERS),
        place=AT_WORK,
        fate=st.sampled_from([Fate.REFUSED, Fate.LOST, Fate.LATE]),
        next_name=st.sampled_from(WORKERS),
    )
    def disturb_work(self, name: str, place: tuple[str, str], fate: Fate, next_name: str) -> None:
        """And let another worker look at what has become of it."""
        if self.world.run_to(name, *place):
            self.world.step(name, fate)
            self.world.run_to(name, "pop")
            self.world.start(next_name)
            for shard in range(len(self.world.manifest.shards)):
                self.world.send_again(shard)
            self.world.run_to(next_name, "compute")

    @rule(name=PROCESSES, how=st.sampled_from(["before", "done", "late"]), noticed=st.booleans())
    def kill(self, name: str, how: str, noticed: bool) -> None:
        self.world.kill(name, done=how == "done", late=how == "late")
        if noticed:
            self.world.child_died(name)

    @rule(name=PROCESSES, place=PLACES, how=st.sampled_from(["before", "done", "late"]))
    def kill_at(self, name: str, place: tuple[str, str], how: str) -> None:
        if self.world.run_to(name, *place):
            self.world.kill(name, done=how == "done", late=how == "late")

    @rule(name=st.sampled_from(WORKERS))
    def beat(self, name: str) -> None:
        for _ in range(3):
            self.world.step(name, heartbeat=True)

    @rule(name=st.sampled_from(WORKERS), fate=st.sampled_from([Fate.REFUSED, Fate.LOST]))
    def disturb_beat(self, name: str, fate: Fate) -> None:
        self.world.step(name, fate, heartbeat=True)

    @rule(name=st.sampled_from(WORKERS))
    def drain(self, name: str) -> None:
        self.world.drain(name)

    @rule(victim=st.sampled_from(WORKERS), thief=st.sampled_from(WORKERS), place=AT_WORK)
    def hand_over(self, victim: str, thief: str, place: tuple[str, str]) -> None:
        """A worker stands still until another one has its shard, and is half through it."""
        if self.world.run_to(victim, *place):
            self.world.hand_over(victim, thief)

    @rule(
        num_copies=st.integers(1, 3), verb=st.sampled_from(["head", "take"]), goes_on=st.booleans()
    )
    def deliver_at_once(self, num_copies: int, verb: str, goes_on: bool) -> None:
        """Copies of one message reach several workers, who look before the first has acted."""
        for _ in range(num_copies):
            self.world.double_message()
        for name in WORKERS:
            self.world.start(name)
            self.world.run_to(name, verb)
        for name in WORKERS if goes_on else ():
            self.world.run_to(name, "compute")

    @rule(name=st.sampled_from(WORKERS), num_rows=st.integers(0, 2))
    def drain_at_work(self, name: str, num_rows: int) -> None:
        """SIGTERM with so many more rows computed."""
        for _ in range(num_rows):
            if self.world.run_to(name, "compute"):
                self.world.step(name)
        self.world.drain(name)
        self.world.run_to(name, "nothing")

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0, 7.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule(number=NUMBERS)
    def land(self, number: int) -> None:
        self.world.land(number)

    @rule()
    def flush_broker(self) -> None:
        self.world.flush_broker()

    @rule()
    def lose_message(self) -> None:
        self.world.lose_message()

    @rule()
    def double_message(self) -> None:
        self.world.double_message()

    @rule(number=NUMBERS)
    def redeliver(self, number: int) -> None:
        self.world.redeliver(number)

    @rule(shard=NUMBERS)
    def send_again(self, shard: int) -> None:
        self.world.send_again(shard)

    @rule(num_hidden=st.sampled_from([0, 1, 3, 100]))
    def hide(self, num_hidden: int) -> None:
        self.world.store.num_hidden = num_hidden

    @rule(number=NUMBERS)
    def tamper(self, number: int) -> None:
        self.world.tamper(number)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        LedgerMachine.num_runs += 1
        try:
            self.world.finish()
        finally:
            self.world.__exit__()


def search(num_examples: int, *, shrinks: bool = True) -> None:
    """Look for a violation. The same runs every time, unless the environment asks for a number."""
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=num_examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            derandomize=EXAMPLES_VARIABLE not in os.environ,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, *([Phase.shrink] if shrinks else [])],
        ),
    )
