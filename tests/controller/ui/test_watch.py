"""Those who watch share their looks, and nobody looks when nobody watches."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from controller.ui.watch import MAX_CPU_SHARE, Bells, Look, Watch


class Counted:
    """A look that counts, and can be held up."""

    def __init__(self) -> None:
        self.num_looks = 0
        self.at_once = 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> Look:
        self.at_once += 1
        assert self.at_once == 1
        assert self.go.wait(60)
        self.num_looks += 1
        self.at_once -= 1
        return Look({"head": str(self.num_looks)})


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 120))


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_many_who_come_at_once_share_one_look() -> None:
    async def test() -> None:
        look = Counted()
        watch = Watch(look, 60.0, Bells())
        looks = await asyncio.gather(*(watch.soon(60.0) for _ in range(20)))
        assert {one.sections["head"] for one in looks if one} == {"1"}
        assert look.num_looks == 1

    in_loop(test)


def test_all_followers_hear_of_a_change_and_it_ends_with_the_last() -> None:
    async def test() -> None:
        look = Counted()
        bells = Bells()
        watch = Watch(look, 0.01, bells)
        first, second = asyncio.Event(), asyncio.Event()
        with watch.following(first):
            with watch.following(second):
                await first.wait()
                await second.wait()
                assert bells.num_watched == 1
            first.clear()
            await first.wait()
        await until(lambda: bells.num_watched == 0 and not look.at_once)
        seen = look.num_looks
        await asyncio.sleep(0.1)
        assert look.num_looks <= seen + 1, "a look that had begun may end"
        assert watch.num_followers == 0

    in_loop(test)


def test_a_slow_look_holds_nobody_up() -> None:
    async def test() -> None:
        look = Counted()
        look.go.clear()
        watch = Watch(look, 60.0, Bells())
        assert await watch.soon(0.01) is None
        look.go.set()
        found = await watch.soon(60.0)
        assert found is not None
        assert look.num_looks == 1

    in_loop(test)


def test_a_look_that_found_the_same_rings_no_bell() -> None:
    async def test() -> None:
        num_looks = 0

        def look() -> Look:
            nonlocal num_looks
            num_looks += 1
            return Look({"head": "same"})

        watch, bell = Watch(look, 0.01, Bells()), asyncio.Event()
        with watch.following(bell):
            await bell.wait()
            bell.clear()
            await until(lambda: num_looks > 3)
            assert not bell.is_set()

    in_loop(test)


def test_a_defect_in_a_look_reaches_who_follows() -> None:
    async def test() -> None:
        def look() -> Look:
            raise KeyError("a defect")

        watch, bell = Watch(look, 0.01, Bells()), asyncio.Event()
        with watch.following(bell):
            await bell.wait()
            with pytest.raises(KeyError):
                _ = watch.latest

    in_loop(test)


def test_costly_looks_are_rarer_and_all_watches_share_the_allowance() -> None:
    bells = Bells()
    assert bells.pause_s(2.0, 0.001) == 2.0
    bells.num_watched = 1
    assert bells.pause_s(2.0, 0.3) == pytest.approx(0.3 / MAX_CPU_SHARE)
    bells.num_watched = 4
    assert bells.pause_s(2.0, 0.3) == pytest.approx(4 * 0.3 / MAX_CPU_SHARE)
