from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from worker.engine.client import EngineLost
from worker.engine.protocol import EngineStatus
from worker.engine.watchdog import EngineWatchdog

STATUS = EngineStatus("g", 1, 2, 32, 4096, 2, 1, "bf16", "cuda:0", 17, 3, 500, progress=0)
LIMIT_S = 10.0


@dataclass
class FakeEngine:
    """Answers with `progress`, or not at all."""

    progress: int | None = 0
    generation: str = "g"
    num_questions: int = 0

    def status(self, timeout_s: float) -> EngineStatus:
        self.num_questions += 1
        if self.progress is None:
            raise EngineLost("silent")
        return replace(STATUS, progress=self.progress, generation=self.generation)

    def close(self) -> None: ...


@dataclass
class Clock:
    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def watchdog(engine: FakeEngine, clock: Clock) -> EngineWatchdog:
    return EngineWatchdog(engine, "g", LIMIT_S, clock)


def test_an_engine_that_gets_on_is_left_alone_however_slow(
    watchdog: EngineWatchdog, engine: FakeEngine, clock: Clock
) -> None:
    for _ in range(100):
        clock.now_s += 0.9 * LIMIT_S
        assert engine.progress is not None
        engine.progress += 1
        assert watchdog.check() is None


def test_a_count_that_stands_still_is_a_hang_after_the_limit(
    watchdog: EngineWatchdog, clock: Clock
) -> None:
    assert watchdog.check() is None
    clock.now_s = LIMIT_S
    assert watchdog.check() is None
    clock.now_s = 1.5 * LIMIT_S
    assert watchdog.check() == "the engine computes nothing: no progress for 15.0 s"


def test_an_engine_that_does_not_answer_is_a_hang_after_the_limit_and_not_before(
    watchdog: EngineWatchdog, engine: FakeEngine, clock: Clock
) -> None:
    engine.progress = None
    clock.now_s = 0.9 * LIMIT_S
    assert watchdog.check() is None
    engine.progress = 1
    clock.now_s = 1.8 * LIMIT_S
    assert watchdog.check() is None
    engine.progress = None
    clock.now_s = 3.0 * LIMIT_S
    assert "does not answer" in str(watchdog.check())


def test_another_start_of_the_engine_is_no_sign_of_life(
    watchdog: EngineWatchdog, engine: FakeEngine, clock: Clock
) -> None:
    engine.generation = "another"
    engine.progress = 5
    clock.now_s = 2 * LIMIT_S
    assert watchdog.check() is not None


def test_the_engine_is_asked_a_few_times_per_limit_only(
    watchdog: EngineWatchdog, engine: FakeEngine, clock: Clock
) -> None:
    for _ in range(1000):
        clock.now_s += LIMIT_S / 1000
        watchdog.check()
    assert engine.num_questions == 10
