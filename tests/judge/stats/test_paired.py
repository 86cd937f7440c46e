from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from judge.stats.paired import sign_flip_p, smallest_difference, wilson


def scipy_p(differences: list[float]) -> float:
    found = stats.permutation_test(
        (np.array(differences),),
        np.sum,
        permutation_type="samples",
        n_resamples=100_000,
        random_state=np.random.default_rng(5),
    )
    return float(found.pvalue)


@pytest.mark.parametrize(
    "differences",
    [[1.0, 2.0, -0.5, 3.0], [0.5, -0.5], [1.0] * 12, [0.1, 0.2, -0.3, 0.7, 1.1, -0.2, 0.4]],
)
def test_few_clusters_are_tested_exactly(differences: list[float]) -> None:
    assert sign_flip_p(differences) == pytest.approx(scipy_p(differences), abs=1e-12)


def test_many_clusters_are_tested_by_random_signs() -> None:
    differences = np.random.default_rng(7).normal(0.25, 1, 60).tolist()
    p = sign_flip_p(differences)
    assert p == pytest.approx(scipy_p(differences), abs=0.01)
    assert sign_flip_p(differences) == p
    assert sign_flip_p([-d for d in differences]) == pytest.approx(p, abs=0.01)


def test_clusters_without_difference_change_nothing() -> None:
    assert sign_flip_p([1.0, 2.0, 0.0, 0.0]) == sign_flip_p([1.0, 2.0])
    assert sign_flip_p([0.0, 0.0]) is None
    assert sign_flip_p([]) is None


def test_no_difference_is_seldom_found_significant() -> None:
    draw = np.random.default_rng(11)
    found = [sign_flip_p(draw.normal(0, 1, 10).round(1).tolist()) for _ in range(400)]
    assert 0.02 <= sum(p is not None and p <= 0.05 for p in found) / 400 <= 0.08


def test_ten_thousand_clusters_are_quick_enough() -> None:
    assert (sign_flip_p(np.random.default_rng(1).normal(0, 1, 10_000).tolist()) or 0) > 0.001


def test_the_power_hint_is_that_of_a_t_test() -> None:
    # The true difference with power 0.8 by the noncentral t, within the approximation's few percent
    se, num = 1.3, 24
    hint = smallest_difference(se, num)
    assert hint is not None
    critical = stats.t.ppf(0.975, num - 1)
    assert stats.nct.sf(critical, num - 1, hint / se) == pytest.approx(0.8, abs=0.02)
    assert smallest_difference(None, 24) is None
    assert smallest_difference(0.0, 24) is None  # no spread seen says nothing of the next one


@pytest.mark.parametrize(("yes", "num"), [(0, 5), (5, 5), (30, 60), (1, 200)])
def test_shares_have_wilsons_interval(yes: int, num: int) -> None:
    oracle = stats.binomtest(yes, num).proportion_ci(method="wilson")
    assert wilson(yes, num) == pytest.approx((oracle.low, oracle.high), abs=1e-12)
    assert wilson(0, 0) is None
