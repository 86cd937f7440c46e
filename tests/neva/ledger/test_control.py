"""Orders and runners, on every kind of store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from neva.errors import ConfigError
from neva.ledger import LedgerCorrupt
from neva.ledger.control import Beat, Control, Order, Standing, Stopped, this_runner
from neva.reasons import Reason
from neva.store import Store
from tests.fakes.memory_store import MemoryStore


def test_without_orders_a_run_may_go_on(store: Store) -> None:
    assert Control(store).look() == Standing(None, 0, 0)
    Control(store).check()


def test_the_last_order_holds_and_nothing_is_overwritten(store: Store) -> None:
    ours, theirs = Control(store), Control(store)
    assert ours.give(Order.SUSPEND)
    assert theirs.look().order is Order.SUSPEND
    assert theirs.give(Order.RESUME)
    assert ours.look() == Standing(None, 2, 0)
    assert ours.give(Order.SUSPEND)
    with pytest.raises(Stopped, match="neva resume") as stopped:
        theirs.check()
    assert (stopped.value.order, stopped.value.reason) == (Order.SUSPEND, Reason.SUSPENDED)
    assert [item.key for item in store.list("control/")] == [
        f"control/order-{number:04d}.json" for number in (1, 2, 3)
    ]


def test_an_order_that_holds_is_not_written_again(store: Store) -> None:
    control = Control(store)
    assert not control.give(Order.RESUME)
    assert control.give(Order.SUSPEND)
    assert not Control(store).give(Order.SUSPEND)
    assert control.look().num_orders == 1


@pytest.mark.parametrize("order", [Order.SUSPEND, Order.RESUME])
def test_a_cancel_is_final(store: Store, order: Order) -> None:
    Control(store).give(Order.CANCEL)
    with pytest.raises(ConfigError, match="which is final"):
        Control(store).give(order)
    assert not Control(store).give(Order.CANCEL)


def test_no_order_comes_after_a_cancel_however_many_give_some(store: Store) -> None:
    def give(order: Order) -> None:
        try:
            Control(store).give(order)
        except ConfigError:
            assert Control(store).look().order is Order.CANCEL

    orders = [Order.SUSPEND, Order.RESUME, Order.CANCEL, Order.SUSPEND, Order.RESUME]
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(give, orders))
    assert Control(store).look().order is Order.CANCEL


def test_an_order_whose_answer_was_lost_is_recognised() -> None:
    store = MemoryStore()
    put = store.put

    def lose_the_answer(key: str, data: bytes, *, if_absent: bool = False) -> str:
        put(key, data, if_absent=if_absent)
        return put(key, data, if_absent=if_absent)

    store.put = lose_the_answer  # type: ignore[method-assign]
    assert Control(store).give(Order.SUSPEND)
    assert Control(store).look().num_orders == 1


def test_an_order_of_a_later_version_is_no_order_to_go_on() -> None:
    store = MemoryStore()
    store.put("control/order-0001.json", b'{"order":"explode","by":"x","order_id":"1"}')
    with pytest.raises(LedgerCorrupt, match="no order"):
        Control(store).look()


def test_one_of_two_becomes_the_runner_of_a_number(store: Store) -> None:
    control = Control(store)
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda _: control.take(1, this_runner()), range(4)))
    assert won.count(True) == 1
    assert control.look().num_runners == 1


def test_a_beat_is_seen(store: Store) -> None:
    control = Control(store)
    assert control.last_beat(1) is None
    control.beat(1, Beat(1, ended=False))
    control.beat(1, Beat(2, ended=True))
    assert control.last_beat(1) == Beat(2, ended=True)
    assert control.look() == Standing(None, 0, 0), "a beat is no runner"
