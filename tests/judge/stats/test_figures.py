from __future__ import annotations

import pytest

from judge.stats.bias import Shown, bias
from judge.stats.figures import Observation, figures, macro_figures

GOLDEN = [
    Observation("1.jpg", "conv", (8, 6)),
    Observation("1.jpg", "conv", (9, 8)),
    Observation("1.jpg", "detail", (7, 7)),
    Observation("2.jpg", "complex", (10, 5)),
    Observation("3.jpg", "complex", (9, 9.5)),
]


def test_the_values_are_those_of_the_golden_table() -> None:
    found = figures(GOLDEN, 10)
    assert found.means is not None and found.difference is not None
    assert [mean.value for mean in found.means] == pytest.approx([86, 71])
    assert found.difference.value == pytest.approx(-15)
    assert found.relative is not None
    assert round(found.relative.value, 1) == 82.6
    assert found.win_rate is not None
    assert found.win_rate.value == pytest.approx(100 * 1.5 / 5)
    assert found.num_clusters == 3
    assert found.smallest_difference is not None and found.smallest_difference > 0


def test_macro_averages_count_every_category_the_same() -> None:
    found = macro_figures(GOLDEN, 10)
    assert found is not None
    assert [mean.value for mean in found.means] == pytest.approx(
        [(95 + 85 + 70) / 3, (72.5 + 70 + 70) / 3]
    )
    assert found.difference.value == pytest.approx(found.means[1].value - found.means[0].value)


def test_nothing_judged_has_no_figures() -> None:
    assert figures([], 10).to_json()["means"] is None
    assert macro_figures([], 10) is None


def test_bias_is_counted_over_decided_verdicts() -> None:
    found = bias(
        [
            Shown((8, 6), (10, 20)),
            Shown((8, 6), (20, 20)),
            Shown((7, 7), (5, 9)),
            Shown((5, 9), (10, 40)),
            Shown((9, 5), (40, 10)),
        ]
    )
    assert (found.first_wins.num_yes, found.first_wins.num) == (3, 4)
    assert (found.longer_wins.num_yes, found.longer_wins.num) == (2, 3)
    record = found.to_json()["first_wins"]
    assert record["percent"] == 75.0
    assert record["low"] < 75 < record["high"]
    assert bias([]).to_json()["longer_wins"]["percent"] is None
