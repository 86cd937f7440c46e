from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ui.chart import HEIGHT, WIDTH, chart, nice_top
from controller.ui.timeline import Finished, finished_parts, shares, throughput
from neva.store.base import ObjectInfo


def part(size_bytes: int, at_s: float | None) -> ObjectInfo:
    return ObjectInfo(f"part-{at_s}", size_bytes, "etag", at_s)


def test_a_shards_rows_are_divided_among_its_parts_by_their_bytes() -> None:
    found = finished_parts({3: [part(300, 10.0), part(100, 20.0)]}, {3: 64})
    assert found == [Finished(10.0, 48.0), Finished(20.0, 16.0)]


def test_a_shard_without_known_rows_or_a_store_without_times_tells_nothing() -> None:
    assert finished_parts({1: [part(1, 5.0)]}, {}) == []
    assert finished_parts({1: [part(1, None)]}, {1: 4}) == []
    assert finished_parts({1: [part(0, 5.0)]}, {1: 4}) == []
    assert shares({}, 10) == {}


def test_rows_of_open_shards_are_shared_out() -> None:
    assert shares({1: [part(10, 1.0)], 2: [part(20, 1.0), part(10, 2.0)]}, 8) == {1: 2.0, 2: 6.0}


def test_a_quiet_hour_is_seen() -> None:
    history = throughput([Finished(0.0, 60.0), Finished(3600.0, 60.0)], None, None)
    assert history is not None
    assert history.width_s == 60
    assert history.rates[0] == history.rates[-1] == 1.0
    assert set(history.rates[1:-1]) == {0.0}


def test_a_bin_that_has_only_begun_is_not_a_slump() -> None:
    rows = [Finished(float(second), 2.0) for second in range(301)]
    history = throughput(rows, 0.0, 300.5)
    assert history is not None
    assert min(history.rates) == pytest.approx(2.0, rel=0.1)


def test_no_rows_no_chart() -> None:
    assert throughput([], 0.0, 100.0) is None


@given(
    st.lists(st.builds(Finished, st.floats(0, 1e6), st.floats(0.1, 1e3)), min_size=1, max_size=50)
)
def test_no_row_is_lost_but_in_a_last_bin_that_is_too_short(rows: list[Finished]) -> None:
    history = throughput(rows, None, None)
    assert history is not None
    assert 1 <= len(history.rates) <= 60
    shown = [one for one in rows if one.at_s < history.end_s]
    total = sum(rate * history.width_s for rate in history.rates[:-1])
    total += history.rates[-1] * (
        history.end_s - history.start_s - history.width_s * (len(history.rates) - 1)
    )
    assert total >= sum(one.num_rows for one in shown) * (1 - 1e-6)
    assert total <= sum(one.num_rows for one in rows) * (1 + 1e-6)


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (0.03, 0.05), (1, 1), (1.01, 2), (24.9, 50), (100, 100)]
)
def test_the_scale_ends_at_a_round_number(highest: float, top: float) -> None:
    assert nice_top(highest) == pytest.approx(top)


def test_the_chart_says_in_words_what_it_shows() -> None:
    history = throughput([Finished(0.0, 50.0), Finished(5.0, 100.0)], 0.0, 10.0)
    assert history is not None
    drawn = chart(history, is_over=False)
    assert drawn.scale == ("20", "10", "0")
    assert [bar.height for bar in drawn.bars] == [HEIGHT / 2, HEIGHT]
    assert all(0 <= bar.x <= WIDTH - bar.width for bar in drawn.bars)
    assert drawn.words == ("Rows per second over 10 s: 15 on average, 20 at most, 20 of late")
    assert (drawn.start, drawn.end) == ("10 s ago", "now")
    over = chart(history, is_over=True)
    assert (over.start, over.end) == ("start", "end, 10 s later")
    assert "of late" not in over.words
