"""What the supervisor exports of the engine, asked of it at each scrape."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from neva.metrics import of_workers as metrics
from neva.metrics.base import Sample
from worker.engine.client import EngineClient, EngineLost
from worker.engine.protocol import EngineStatus

_ANSWER_LIMIT_S = 0.5


def engine_samples(socket: Path) -> Iterator[Sample]:
    """Of the engine behind the socket. Its server answers while it computes; silence is no error.

    A client of its own each time, as scrapes come from several threads.
    """
    client = EngineClient(socket)
    try:
        status = client.status(_ANSWER_LIMIT_S)
    except EngineLost:
        yield Sample(metrics.ENGINE_READY, 0)
        return
    finally:
        client.close()
    yield Sample(metrics.ENGINE_READY, 1)
    yield from _samples(status)


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
