"""Orders to a run, and who runs it: records under `control/` that everybody can see.

    control/order-0001.json     suspend, resume or cancel; written once, the last one holds
    control/runner-0001.json    a `neva run` that has the run; written once, the last one holds
    control/runner-0001.beat    its sign of life, written again and again

Numbers are taken by conditional PUT, so that of two writers one is first and the other looks again:
nothing is overwritten, no clock is compared. One listing of `control/` tells everything. A cancel
is final: no order is written after one.
"""

from __future__ import annotations

import getpass
import os
import re
import uuid
from dataclasses import dataclass
from enum import StrEnum

from neva.errors import ConfigError, NevaError
from neva.ledger.records import LedgerCorrupt, Record
from neva.process import ProcessIdentity
from neva.reasons import Reason
from neva.store.base import AlreadyExists, Store, put_if_absent_or_same

PREFIX = "control/"
_ORDER = re.compile(r"control/order-(\d+)\.json")
_RUNNER = re.compile(r"control/runner-(\d+)\.json")


class Order(StrEnum):
    """What somebody wants of a run."""

    SUSPEND = "suspend"
    RESUME = "resume"
    CANCEL = "cancel"


class Stopped(NevaError):
    """The run is not to go on: it is suspended or cancelled."""

    def __init__(self, order: Order, where: str) -> None:
        self.order = order
        if order is Order.CANCEL:
            super().__init__(f"{where} was cancelled", reason=Reason.CANCELLED)
        else:
            words = f"{where} is suspended; `neva resume {where}` lifts that"
            super().__init__(words, reason=Reason.SUSPENDED)


@dataclass(frozen=True, slots=True)
class OrderRecord(Record):
    """One order. `order_id` is unique, so that its writer recognises it."""

    order: str
    by: str  # user@host, for people
    order_id: str


@dataclass(frozen=True, slots=True)
class RunnerRecord(Record):
    """One `neva run` at work. `machine`, `pid` and `started` tell on its machine if it is gone."""

    runner_id: str
    host: str
    machine: str
    pid: int
    started: str

    @property
    def words(self) -> str:
        return f"process {self.pid} on {self.host}"

    @property
    def identity(self) -> ProcessIdentity:
        return ProcessIdentity(self.machine, self.pid, self.started)


@dataclass(frozen=True, slots=True)
class Beat(Record):
    """A runner's sign of life: a number that grows."""

    number: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """One look at `control/`.

    Attributes:
        order: the one that holds; None when the run may go on.
        num_orders, num_runners: numbers taken so far.
    """

    order: Order | None
    num_orders: int
    num_runners: int


class Control:
    """Orders and runners of the run under one output prefix. Safe between threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: tuple[int, Order | None] = (0, None)  # records never change: read once

    def look(self) -> Standing:
        """One listing, and a read when there is a new order."""
        orders, runners = [0], [0]
        for item in self._store.list(PREFIX):
            if (match := _ORDER.fullmatch(item.key)) is not None:
                orders.append(int(match[1]))
            elif (match := _RUNNER.fullmatch(item.key)) is not None:
                runners.append(int(match[1]))
        last = max(orders)
        known_number, order = self._known
        if last > known_number:
            order = self._read_order(last)
            self._known = (last, order)
        return Standing(order, last, max(runners))

    def check(self) -> None:
        """Raises Stopped when the run is suspended or cancelled."""
        order = self.look().order
        if order is not None:
            raise Stopped(order, self._store.base_uri)

    def give(self, order: Order) -> bool:
        """Write an order. False when it holds already.

        Raises:
            ConfigError: CANCELLED, the run is cancelled, which is final.
        """
        record = OrderRecord(order.value, _me(), uuid.uuid4().hex)
        while True:
            standing = self.look()
            if standing.order == (None if order is Order.RESUME else order):
                return False
            if standing.order is Order.CANCEL:
                raise ConfigError(
                    f"{self._store.base_uri} was cancelled, which is final; give the job another "
                    "output.uri to run it again",
                    reason=Reason.CANCELLED,
                )
            try:
                key = _order_key(standing.num_orders + 1)
                put_if_absent_or_same(self._store, key, record.to_json())
            except AlreadyExists:
                continue  # somebody else's order was first
            return True

    def _read_order(self, number: int) -> Order | None:
        key = _order_key(number)
        record = OrderRecord.from_json(self._store.get(key), key)
        try:
            order = Order(record.order)
        except ValueError as error:
            raise LedgerCorrupt(f"{key}: {record.order!r} is no order") from error
        return None if order is Order.RESUME else order

    # Runners

    def take(self, number: int, record: RunnerRecord) -> bool:
        """Become runner `number`; False when somebody else is."""
        try:
            put_if_absent_or_same(self._store, _runner_key(number), record.to_json())
        except AlreadyExists:
            return False
        return True

    def runner(self, number: int) -> RunnerRecord:
        key = _runner_key(number)
        return RunnerRecord.from_json(self._store.get(key), key)

    def beat(self, number: int, beat: Beat) -> None:
        self._store.put(_beat_key(number), beat.to_json())

    def last_beat(self, number: int) -> Beat | None:
        key = _beat_key(number)
        data = self._store.get_or_none(key)
        return None if data is None else Beat.from_json(data, key)


def this_runner() -> RunnerRecord:
    """A record of this process."""
    me = ProcessIdentity.of_this_process()
    return RunnerRecord(uuid.uuid4().hex, os.uname().nodename, me.machine, me.pid, me.started)


def _me() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return f"{user}@{os.uname().nodename}"


def _order_key(number: int) -> str:
    return f"{PREFIX}order-{number:04d}.json"


def _runner_key(number: int) -> str:
    return f"{PREFIX}runner-{number:04d}.json"


def _beat_key(number: int) -> str:
    return f"{PREFIX}runner-{number:04d}.beat"
