"""A small sample of `make coverage`: its seeded simulations, fewer of them."""

from __future__ import annotations

from tests.judge.stats.coverage import coverage


def test_intervals_of_llava_benchs_shape_hold_the_truth_as_often_as_they_say() -> None:
    for name, share in coverage(600, num_images=24, seed=24).items():
        assert 0.93 <= share <= 0.97, name
