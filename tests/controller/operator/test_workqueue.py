from __future__ import annotations

from controller.operator.workqueue import WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_a_key_added_twice_is_handed_out_once() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("a")
    queue.add("a")
    assert queue.take(0) == "a"
    assert queue.take(0) is None


def test_a_key_added_while_it_is_worked_on_is_handed_out_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("a")
    queue.take(0)
    queue.add("a")
    assert queue.take(0) is None, "never to two at once"
    queue.done("a")
    assert queue.take(0) == "a"


def test_the_earlier_of_two_times_holds() -> None:
    clock = Clock()
    queue: WorkQueue[str] = WorkQueue(clock)
    queue.add("a", 30)
    queue.add("a", 5)
    queue.add("a", 60)
    clock.now_s = 4.9
    assert queue.take(0) is None
    clock.now_s = 5
    assert queue.take(0) == "a"
    queue.done("a")
    clock.now_s = 100
    assert queue.take(0) is None


def test_failures_come_back_ever_later_until_one_succeeds() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    waits = [queue.add_failed("a") for _ in range(12)]
    assert waits[:4] == [0.5, 1, 2, 4]
    assert waits[-1] == 120
    queue.forget_failures("a")
    assert queue.add_failed("a") == 0.5


def test_a_closed_queue_hands_out_nothing() -> None:
    queue: WorkQueue[str] = WorkQueue(Clock())
    queue.add("a")
    queue.close()
    assert queue.take() is None
