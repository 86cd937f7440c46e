"""What a worker exports of its engine while that answers, and while it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from neva.metrics.base import Exporter
from neva.metrics.export import metrics_text
from worker.engine.protocol import EngineFigures, EngineStatus
from worker.engine_metrics import EngineSamples, ask_engine

STATUS = EngineStatus(
    generation="a",
    num_active=3,
    num_waiting=0,
    max_batch_rows=8,
    context_tokens=64,
    tensor_parallel_size=1,
    pipeline_parallel_size=1,
    precision="fp32",
    device="cpu",
    num_steps=40,
    num_vision_passes=5,
    num_prefilled_tokens=900,
    progress=1,
    figures=EngineFigures(num_tokens=100, busy_s=2.0),
)
RESTARTED = replace(STATUS, generation="b", num_steps=2, figures=EngineFigures(num_tokens=4))


@pytest.fixture
def scrape() -> Callable[[EngineStatus | None], dict[str, float]]:
    """One worker's page, asked while its engine answers so; values by series."""
    answers: list[EngineStatus | None] = []
    samples = EngineSamples(lambda: answers[-1])

    def scrape(answer: EngineStatus | None) -> dict[str, float]:
        answers.append(answer)
        lines = metrics_text(Exporter.WORKER, samples()).splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith("neva_engine"))
        return {name: float(value) for name, _, value in pairs}

    return scrape


def test_counters_of_an_engine_that_is_silent_stay_as_they_were(
    scrape: Callable[[EngineStatus | None], dict[str, float]],
) -> None:
    loading, working, silent = scrape(None), scrape(STATUS), scrape(None)
    for page, ready, steps, busy_s in ((loading, 0, 0, 0), (working, 1, 40, 2), (silent, 0, 40, 2)):
        assert page["neva_engine_ready"] == ready
        assert page["neva_engine_steps_total"] == steps
        assert page['neva_engine_seconds_total{state="busy"}'] == busy_s
    assert working["neva_engine_active_rows"] == 3
    assert not [name for name in silent if name.startswith("neva_engine_active_rows")]


def test_an_engine_that_was_started_anew_begins_anew(
    scrape: Callable[[EngineStatus | None], dict[str, float]],
) -> None:
    steps = [
        scrape(answer)["neva_engine_steps_total"] for answer in (STATUS, None, RESTARTED, None)
    ]
    assert steps == [40, 40, 2, 2]


def test_an_engine_that_is_not_there_gives_no_status(tmp_path: Path) -> None:
    assert ask_engine(tmp_path / "engine.sock") is None
