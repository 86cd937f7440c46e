"""A sample of `make simulate`, and that docs/scale.md says what it prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.simulate import (
    DOCS,
    check_table,
    costs_table,
    markdown,
    simulate,
    sizes_table,
    with_table,
)
from benchmarks.simulation.chart import line_chart
from benchmarks.simulation.limits import Limit
from benchmarks.simulation.model import COMMIT_READERS
from benchmarks.simulation.real_run import kind_of
from benchmarks.simulation.world import Costs, Job, Place, Trouble

_FREE = Costs(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
_FAST = Place(read_s=1e-9, write_s=1e-9, look_s=0.1)


def test_the_documentation_says_what_the_simulation_prints() -> None:
    page = (DOCS / "scale.md").read_text(encoding="utf-8")
    for table in (costs_table(), check_table(), sizes_table((1, 10, 30))):
        assert markdown(table) in page, "run: python -m benchmarks.simulate --write"


def test_without_costs_workers_divide_the_rows_and_nothing_else_takes_time() -> None:
    job = Job(num_rows=8_000, workers=4, max_rows=100, rows_per_s=10, start_s=5)
    found = simulate(job, _FAST, costs=_FREE)
    assert found.answered_s == pytest.approx(5 + 8_000 / (4 * 10), rel=0.01)
    assert (found.num_deaths, found.computed_twice) == (0, 0)


def test_each_request_and_each_second_of_computing_is_waited_for() -> None:
    costs = replace(_FREE, begin_reads=3, end_writes=1, shard_cpu_s=0.5)
    place = Place(read_s=0.1, write_s=0.2, look_s=0.1)
    job = Job(1_000, 1, max_rows=100, rows_per_s=10, start_s=0, shards_in_flight=1)
    # Its part is a write, too.
    overhead_s = 3 * 0.1 + 2 * 0.2 + 0.5
    found = simulate(job, place, costs=costs)
    assert found.answered_s == pytest.approx(10 * (10 + overhead_s), rel=0.02)


def test_every_shard_is_answered_though_workers_die_and_few_rows_are_computed_twice() -> None:
    job = Job(20_000, 10, max_rows=64, rows_per_s=10, start_s=10)
    trouble = Trouble(deaths_per_hour=60, counted_share=0)
    found = simulate(job, trouble=trouble)
    calm = simulate(job)
    assert found.num_deaths > 10
    assert found.answered_s > calm.answered_s
    assert 0 < found.computed_twice <= found.num_deaths * 2 * job.flush_rows


def test_crashes_beyond_the_limit_start_another_round() -> None:
    job = Job(20_000, 10, rows_per_s=10, start_s=10)
    patient = simulate(job, trouble=Trouble(60, counted_share=1, backoff_limit=1_000))
    strict = simulate(job, trouble=Trouble(60, counted_share=1, backoff_limit=2))
    assert patient.num_rounds == 1 < strict.num_rounds
    assert strict.answered_s > patient.answered_s


def test_a_controller_that_reads_too_few_commits_starves_workers_of_small_shards() -> None:
    costs = replace(_FREE, controller_reads=1)
    place = Place(read_s=0.1 * COMMIT_READERS, look_s=1)
    job = Job(200_000, 100, max_rows=16, rows_per_s=10, start_s=0)  # 62 shards a second
    starved = simulate(job, place, costs=costs)
    larger = simulate(replace(job, max_rows=256), place, costs=costs)
    assert starved.efficiency < 0.5 < 0.8 < larger.efficiency
    assert starved.idle_share > 0.4


def test_the_same_seed_gives_the_same_run() -> None:
    job, trouble = Job(5_000, 5), Trouble(deaths_per_hour=10, spread=0.5)
    assert simulate(job, trouble=trouble) == simulate(job, trouble=trouble)


def test_a_part_is_as_large_as_rows_come_in_time_and_no_larger_than_a_part_may_be() -> None:
    slow = Job(1_000, 1, max_rows=256, rows_per_s=4, flush_rows=64, flush_interval_s=2)
    assert (slow.rows_per_part, slow.parts_per_shard) == (4, 64)
    assert replace(slow, flush_interval_s=1_000).rows_per_part == 64
    assert replace(slow, rows_per_s=0.1).rows_per_part == 1


def test_a_limit_lets_through_its_rate_and_no_more() -> None:
    limit = Limit(10.0)
    assert limit.take(0.0, 20) == 0.0
    assert limit.take(0.0, 1) == pytest.approx(2.0)
    assert limit.take(100.0, 1) == 0.0
    busy = Limit(10.0, always_per_s=5.0)
    busy.take(0.0, 10)
    assert busy.take(0.0, 1) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/b/out/shards/00012/attempts/1/part-0001.jsonl", "part"),
        ("/b/out/shards/00012/attempts/1/claim.json", "claim"),
        ("/b/out/shards/00012/commit.json", "commit"),
        ("/b?list-type=2&prefix=out%2Fshards%2F", "list shards"),
        ("/b?list-type=2&prefix=out%2Fcontrol%2F", "list control"),
        ("/b/videos/clip-001.mp4", "media"),
        ("/b/out/manifest.json", "other"),
    ],
)
def test_requests_are_told_apart(path: str, kind: str) -> None:
    assert kind_of(path) == kind


def test_a_page_without_marks_is_an_error() -> None:
    with pytest.raises(ValueError, match="costs"):
        with_table("nothing", "costs", [["a"]])


def test_the_chart_names_its_lines_and_escapes() -> None:
    svg = line_chart("T", "x", "y", {"a < b": [(1, 0.5), (10, 1.2)]})
    assert "a &lt; b" in svg and svg.count("<circle") == 2
