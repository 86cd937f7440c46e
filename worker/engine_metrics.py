"""What the supervisor exports of the engine, asked of it at each scrape."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from neva.metrics import of_workers as metrics
from neva.metrics.base import Kind, Sample
from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import EngineStatus

_ANSWER_LIMIT_S = 0.5


def ask_engine(socket: Path) -> EngineStatus | None:
    """The status of the engine behind the socket; None: no answer, which is no error here.

    Its server answers while it computes. A client of its own each time, as scrapes come from
    several threads.
    """
    client = EngineClient(socket)
    try:
        return client.status(_ANSWER_LIMIT_S)
    except EngineLost:
        return None
    finally:
        client.close()


class EngineSamples:
    """What is exported of the engine. While it gives no status its counters stay as they were.

    A counter that falls to 0 and comes back would count all it had for new. Only an engine that
    was started anew begins at 0, which Prometheus takes for what it is.
    """

    def __init__(self, ask: Callable[[], EngineStatus | None]) -> None:
        self._ask = ask
        self._counters: Sequence[Sample] = ()
        self._lock = threading.Lock()  # of two scrapes at once the later has the later sums

    def __call__(self) -> list[Sample]:
        with self._lock:
            status = self._ask()
            if status is None:
                return [Sample(metrics.ENGINE_READY, 0), *self._counters]
            samples = list(_samples(status))
            self._counters = [one for one in samples if one.metric.kind is Kind.COUNTER]
            return [Sample(metrics.ENGINE_READY, 1), *samples]


def _samples(status: EngineStatus) -> Iterator[Sample]:
    figures = status.figures
    yield Sample(metrics.ENGINE_ACTIVE_ROWS, status.num_active)
    yield Sample(metrics.ENGINE_WAITING_ROWS, status.num_waiting)
    yield Sample(metrics.ENGINE_MAX_ROWS, status.max_batch_rows)
    yield Sample(metrics.ENGINE_STEPS, status.num_steps)
    yield Sample(metrics.ENGINE_TOKENS, figures.num_tokens)
    yield Sample(metrics.ENGINE_PREFILLED, status.num_prefilled_tokens)
    yield Sample(metrics.ENGINE_VISION_PASSES, status.num_vision_passes)
    yield Sample(metrics.ENGINE_FEATURES, figures.num_feature_hits, ("hit",))
    yield Sample(metrics.ENGINE_FEATURES, figures.num_feature_misses, ("miss",))
    yield Sample(metrics.ENGINE_PREFIXES, figures.num_prefix_hits, ("hit",))
    yield Sample(metrics.ENGINE_PREFIXES, figures.num_prefix_misses, ("miss",))
    yield Sample(metrics.ENGINE_CACHE_BYTES, figures.cache_bytes)
    yield Sample(metrics.ENGINE_CACHE_RATIO, figures.cache_used_ratio)
    yield Sample(metrics.ENGINE_SECONDS, figures.busy_s, ("busy",))
    yield Sample(metrics.ENGINE_SECONDS, figures.idle_s, ("idle",))
