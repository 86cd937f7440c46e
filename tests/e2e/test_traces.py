"""A job with tracing on: each attempt at a shard is a trace, down to its rows and its commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.collector import attributes, collecting
from tests.support.jobs import JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_a_workers_spans_are_a_tree_for_each_attempt_at_a_shard(
    make_job: Callable[..., JobFolder],
) -> None:
    with collecting() as collector:
        tracing = {"NEVA_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        # An interval that never ends: what arrives was sent by processes that end in order.
        job = make_job(4, environment={**tracing, "OTEL_BSP_SCHEDULE_DELAY": "3600000"})
        code, printed = job.run()
    assert code == 0, printed
    rows = {str(row["question_id"]) for row in job.lines("outputs.jsonl")}
    assert len(rows) == 12
    assert collector.services == {"neva-batch"}

    shards = {attributes(span)["neva.shard"]: span for span in collector.named("shard")}
    assert set(shards) == {0, 1}
    assert len(collector.named("shard")) == 2, "one attempt each"
    assert len({span.trace_id for span in shards.values()}) == 2, "a trace each"
    assert not any(span.parent_span_id for span in shards.values())
    traces = {span.trace_id: span for span in shards.values()}
    for span in collector.spans:
        if span.name != "shard":
            shard = traces[span.trace_id]
            assert span.parent_span_id == shard.span_id
            assert shard.start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= shard.end_time_unix_nano
    assert {attributes(span)["neva.row"] for span in collector.named("engine request")} == rows
    decoded = {attributes(span)["neva.media"] for span in collector.named("decode")}
    assert decoded == {f"clip-{number:03d}.mp4" for number in range(4)}
    committed = [attributes(span) for span in collector.named("commit")]
    assert sorted(one["neva.shard"] for one in committed) == [0, 1]
    assert len(collector.spans) == 2 + 12 + 4 + 2, "and nothing else"
