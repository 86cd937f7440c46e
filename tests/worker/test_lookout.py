"""Orders reach a worker within seconds, and nothing that a look waits for keeps it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from neva.ledger.control import Control, Order, Standing
from neva.store import StoreUnavailable
from tests.fakes.memory_store import MemoryStore
from worker.lookout import Lookout
from worker.until_done import Verdict


class FakeControl(Control):
    """Looks as told."""

    def __init__(self, look: Callable[[], Standing]) -> None:
        super().__init__(MemoryStore())
        self._look = look

    def look(self) -> Standing:
        return self._look()


def wait_for(lookout: Lookout, verdict: Verdict) -> None:
    deadline_s = time.monotonic() + 30
    while lookout.verdict is not verdict:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_an_order_ends_the_worker() -> None:
    store = MemoryStore()
    with Lookout(Control(store), None, lambda: False) as lookout:
        assert lookout.verdict is Verdict.STAY
        Control(store).give(Order.SUSPEND)
        wait_for(lookout, Verdict.STOPPED)


def test_a_store_that_fails_is_asked_again() -> None:
    answers: list[Standing | Exception] = [
        StoreUnavailable("503"),
        Standing(None, 0, 0),
        Standing(Order.CANCEL, 1, 0),
    ]

    def look() -> Standing:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with Lookout(FakeControl(look), None, lambda: False) as lookout:
        wait_for(lookout, Verdict.STOPPED)
    assert answers == []


def test_a_look_that_takes_for_ever_keeps_nobody() -> None:
    looking, free = threading.Event(), threading.Event()

    def look() -> Standing:
        looking.set()
        free.wait(60)
        return Standing(None, 0, 0)

    with Lookout(FakeControl(look), None, lambda: False) as lookout:
        assert looking.wait(30)
        started_s = time.monotonic()
        assert lookout.verdict is Verdict.STAY
    assert time.monotonic() - started_s < 5, "the block ends beside it"
    free.set()
