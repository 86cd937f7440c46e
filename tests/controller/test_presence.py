"""One `neva run` at a time, by signs of life and a stopwatch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from controller.local.presence import SILENCE_S, Presence, Rival, TakenOver, take_turn
from neva.ledger.control import Beat, Control, Order, RunnerRecord, Stopped, this_runner
from neva.process import ProcessIdentity
from neva.reasons import Reason
from tests.fakes.memory_store import MemoryStore


def elsewhere() -> RunnerRecord:
    """A runner of another machine: nobody here can tell whether it is gone."""
    return dataclasses.replace(this_runner(), machine="another", host="far")


def never(rival: Rival) -> bool:
    raise AssertionError("nobody is there to wait for")


def test_the_first_comes_at_once_and_says_goodbye() -> None:
    store = MemoryStore()
    turn = take_turn(store, never)
    assert turn is not None
    with turn:
        turn.check()
        beat = Control(store).last_beat(1)
        assert beat is not None and not beat.ended
    beat = Control(store).last_beat(1)
    assert beat is not None and beat.ended
    assert take_turn(store, never) is not None, "the next need not wait"


def test_a_second_waits_while_the_first_lives_and_gives_up_when_told() -> None:
    store = MemoryStore()
    control = Control(store)
    control.take(1, elsewhere())
    asked: list[int] = []

    def wait(rival: Rival) -> bool:
        asked.append(rival.number)
        return len(asked) == 3

    assert take_turn(store, wait) is None
    assert asked == [1, 1, 1]


def test_one_that_was_killed_on_this_machine_is_followed_at_once() -> None:
    store = MemoryStore()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    record = dataclasses.replace(this_runner(), pid=dead.pid)
    Control(store).take(1, record)
    assert take_turn(store, never) is not None
    assert Control(store).look().num_runners == 2


def test_one_of_another_machine_is_given_up_after_silence_by_our_stopwatch() -> None:
    store = MemoryStore()
    control = Control(store)
    control.take(1, elsewhere())
    now_s = 1000.0
    rival = Rival(control, 1, clock=lambda: now_s)
    assert rival.is_alive()
    now_s += SILENCE_S - 1
    control.beat(1, Beat(7, ended=False))
    assert rival.is_alive(), "it has beaten since"
    now_s += SILENCE_S - 1
    assert rival.is_alive()
    now_s += 1
    assert not rival.is_alive()


def test_one_that_said_goodbye_is_followed_at_once() -> None:
    store = MemoryStore()
    control = Control(store)
    control.take(1, elsewhere())
    control.beat(1, Beat(7, ended=True))
    assert not Rival(control, 1).is_alive()


def test_a_runner_that_woke_up_late_sees_that_it_was_followed() -> None:
    store = MemoryStore()
    Control(store).take(1, this_runner())
    Control(store).take(2, elsewhere())
    with Presence(store, 1) as turn, pytest.raises(TakenOver) as caught:
        turn.check()
    assert caught.value.reason == Reason.LEASE_LOST


def test_an_order_stops_the_runner_and_keeps_others_from_starting() -> None:
    store = MemoryStore()
    with Presence(store, 1, interval_s=0.01) as turn:
        Control(store).give(Order.SUSPEND)
        with pytest.raises(Stopped):
            while True:
                turn.check()
    with pytest.raises(Stopped):
        take_turn(store, never)


def test_a_process_is_told_from_a_later_one_of_the_same_id() -> None:
    me = ProcessIdentity.of_this_process()
    assert not me.is_gone
    assert dataclasses.replace(me, started="1").is_gone
    assert not dataclasses.replace(me, started="1", machine="another").is_gone
