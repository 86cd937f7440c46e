"""One run in a world where everything that can go wrong is a decision of the test.

The law that the world watches over all the time is in `watch.py`; here is what can be done.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Self

import structlog.testing

from neva.errors import NevaError
from neva.ledger import Ledger, Manifest, ShardPlan, ShardRow, layout
from tests.fakes.memory_store import MemoryStore
from tests.fakes.redis_server import FakeRedis
from tests.ledger_model import roles
from tests.ledger_model.broker import ModelBroker, no_broker
from tests.ledger_model.scheduler import Die, Fate, Process, Scheduler, Task
from tests.ledger_model.store import ModelStore
from tests.ledger_model.watch import Violation, Watch

WORKERS = ("w0", "w1", "w2", "w3")
CONTROLLERS = ("c0", "c1")
_SKEWS_S = {"w0": 0.0, "w1": 300.0, "w2": -200.0, "w3": 7.0, "c0": -90.0, "c1": 600.0}
# The end comes within so many rounds of one request by everybody, and is never this far away.
_MAX_ROUNDS = 6000
_MAX_SILENCE_S = 100.0


@dataclass(frozen=True)
class Setup:
    """What the run is.

    Attributes:
        num_rows: of shards of four; a fifth row is a shard of its own.
        kills: rows that kill whoever computes them.
        hangs: rows that never return.
    """

    num_rows: int = 5
    kills: frozenset[str] = frozenset()
    hangs: frozenset[str] = frozenset()
    flush_rows: int = 2
    max_attempts: int = 2


@lru_cache
def reference_manifest(num_rows: int) -> Manifest:
    """What every split of these rows must give."""
    return roles.split_rows(Ledger(MemoryStore()), num_rows)


@dataclass
class World:
    """Use it as a context manager: code under test is patched meanwhile.

    Attributes:
        messages: delivery tag of the message that a process works on.
    """

    setup: Setup = field(default_factory=Setup)
    messages: dict[Process, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifest = reference_manifest(self.setup.num_rows)
        self.run_id = self.manifest.run_id
        self.rows = {row.row_id: row for row in roles.input_rows(self.setup.num_rows)}
        self.scheduler = Scheduler()
        self.store = ModelStore(self.scheduler)
        self.server = FakeRedis(lambda: self.scheduler.now_s)
        self.server.gate = lambda verb, key, effect: self.scheduler.request(
            verb, key, effect, no_broker
        )
        self.broker = ModelBroker(self.scheduler, self.server, self.run_id)
        self.answer_to = roles.answer_to
        self.processes: dict[str, Process] = {}
        self.configs: dict[str, roles.ModelConfig] = {}
        self.watch = Watch(self)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(structlog.testing.capture_logs())
        self._stack.enter_context(roles.stand_ins(self))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            self.scheduler.kill(process)
        self._stack.close()

    def plan(self, shard: int) -> ShardPlan:
        return self.manifest.shards[shard]

    # What happens to processes

    def start(self, name: str) -> None:
        """A new process of this name, if the last one is gone."""
        if self.is_running(name):
            return
        process = self.processes[name] = Process(name, _SKEWS_S[name])
        if name in CONTROLLERS:
            self.scheduler.start(process, lambda: roles.run_controller(self))
        else:
            config = self.configs[name] = roles.ModelConfig("children of one pod")
            self.scheduler.start(process, lambda: roles.run_worker(self, process, config))
        self._check()

    def is_running(self, name: str) -> bool:
        process = self.processes.get(name)
        return process is not None and process.running

    def step(self, name: str, fate: Fate = Fate.DONE, *, heartbeat: bool = False) -> bool:
        """Decide one request of the process; False when it waits for something else."""
        task = self._ready_task(name, heartbeat)
        if task is None:
            return False
        self.scheduler.step(task, fate)
        self._check()
        return True

    def run_to(self, name: str, verb: str, key: str = "*", *, num_steps: int = 400) -> bool:
        """Let the process go on until it asks for this; its heart beats as it should."""
        for _ in range(num_steps):
            task = self._ready_task(name, False)
            if task is None or task.pending is None:
                return False
            if task.pending.verb == verb and fnmatchcase(task.pending.key, key):
                return True
            self.step(name)
        return False

    def kill(self, name: str, *, done: bool = False, late: bool = False) -> None:
        """SIGKILL.

        Args:
            done: after what it asks for was done, but before it knows.
            late: what it asks for is done later.
        """
        process = self.processes.get(name)
        if process is None or not process.running:
            return
        task = process.next_task()
        request = task.pending if task is not None else None
        self.scheduler.kill(process)
        if request is not None and request.error is not None and (done or late):
            self.scheduler.late.append(request)
            if done:
                self.land(len(self.scheduler.late) - 1)
        self._check()

    def child_died(self, name: str) -> None:
        """The parent of a killed child puts its message back."""
        process = self.processes.get(name)
        if process is not None and not process.alive and process in self.messages:
            self.broker.restore(self.messages.pop(process))

    def drain(self, name: str) -> None:
        """SIGTERM."""
        if name in self.configs:
            self.configs[name].draining = True

    # What happens to the world

    def wait(self, seconds: float) -> None:
        self.scheduler.now_s += seconds

    def land(self, number: int) -> None:
        """A late request is done now."""
        if self.scheduler.late:
            self.scheduler.land(self.scheduler.late[number % len(self.scheduler.late)])
            self._check()

    def flush_broker(self) -> None:
        self.watch.num_flushes += 1
        self.broker.flush()

    def lose_message(self) -> None:
        if self.broker.waiting:
            self.broker.pop()

    def double_message(self) -> None:
        if self.broker.waiting:
            self.broker.put(self.broker.waiting[0])

    def redeliver(self, number: int) -> None:
        """The visibility timeout of a message in work ends, whether or not its worker lives."""
        if self.broker.unacked:
            self.broker.restore(sorted(self.broker.unacked)[number % len(self.broker.unacked)])

    def hand_over(self, victim: str, thief: str) -> None:
        """The victim stands still until its lease is over and the thief is at its shard."""
        process = self.processes.get(victim)
        self.wait(7)
        if process in self.messages:
            self.broker.restore(self.messages[process])
            self.start(thief)
            self.run_to(thief, "compute")

    def send_again(self, shard: int) -> None:
        """Some controller sends a message too many."""
        if layout.MANIFEST in self.store.objects:
            self.broker.put(shard % len(self.manifest.shards))

    def tamper(self, number: int) -> bool:
        """Somebody changes an answer, removes one, or puts another shard's commit there."""
        committed = sorted(Ledger(self.store).committed_shards())
        if not committed or self.watch.tampered or self.watch.is_merging:
            return False
        shard, other = committed[0], committed[-1]
        part = Ledger(self.store).read_commit(shard).parts[0].key
        data = self.store.objects[part]
        if number % 3 == 0:
            self.store.objects[part] = data.replace(b"answer", b"ANSWER").replace(b"killed", b"")
        elif number % 3 == 1 or shard == other:
            self.store.objects[part] = b"".join(data.splitlines(keepends=True)[1:])
        else:
            self.store.objects[layout.commit(shard)] = self.store.objects[layout.commit(other)]
        self.watch.tampered = True
        return True

    # What processes do here

    def compute(self, process: Process, row: ShardRow, attempt: int) -> None:
        def effect() -> None:
            self.watch.computes(process, row, attempt)
            if row.row_id in self.setup.kills:
                self.watch.killer_row = row.row_id
                raise Die

        hangs = row.row_id in self.setup.hangs
        self.scheduler.request("compute", row.row_id, effect, ready=lambda: not hangs)

    def reported(self, error: NevaError) -> None:
        self.watch.reported(error)

    def drained(self, process: Process, shard: int, finished: list[str]) -> None:
        self.watch.drained(process, shard, finished)

    # The end

    def finish(self) -> None:
        """No more faults: everything runs fairly to its end, which is then looked at."""
        self.store.num_hidden = 0
        while self.scheduler.late:
            self.land(0)
        self.watch.last_put_s = self.scheduler.now_s
        for name in ("c0", "w0", "w1"):
            self.start(name)
        for _ in range(_MAX_ROUNDS):
            if layout.SUCCESS in self.store.objects or self.watch.refused:
                break
            if self.scheduler.now_s - self.watch.last_put_s > _MAX_SILENCE_S:
                raise Violation(f"nothing was written for {_MAX_SILENCE_S} s")
            if not self._step_all():
                self.wait(0.25)
        else:
            raise Violation(f"no end within {_MAX_ROUNDS} rounds")
        self.watch.check_end()

    def _step_all(self) -> bool:
        """One request of every thread that can go on."""
        went_on = False
        for name, process in list(self.processes.items()):
            for task in list(process.tasks):
                if task.ready:
                    self.scheduler.step(task)
                    self._check()
                    went_on = True
            if not process.running and name in WORKERS:
                self.child_died(name)
                self.start(name)
        return went_on

    def _ready_task(self, name: str, heartbeat: bool) -> Task | None:
        process = self.processes.get(name)
        if process is None:
            return None
        if heartbeat:
            beats = [task for task in process.tasks[1:] if task.ready]
            return beats[0] if beats else None
        return process.next_task()

    def _check(self) -> None:
        if self.scheduler.crashes:
            name, error = self.scheduler.crashes[0]
            raise Violation(f"{name} crashed: {error!r}") from error
        self.watch.check()
