from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from judge.stats.estimate import macro, ratio

VALUES = [8.0, 6.5, 9.0, 7.0, 3.0, 10.0, 7.5]


def test_questions_that_share_nothing_have_the_textbook_interval() -> None:
    found = ratio([(value, 1.0) for value in VALUES])
    assert found is not None and found.low is not None and found.high is not None
    se = stats.sem(VALUES)
    low, high = stats.t.interval(0.95, len(VALUES) - 1, np.mean(VALUES), se)
    assert found.value == pytest.approx(np.mean(VALUES))
    assert found.se == pytest.approx(se)
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_bootstrap_of_the_clusters_agrees_with_scipys() -> None:
    pairs = [(value, 1.0) for value in VALUES]
    found = ratio(pairs)
    oracle = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=5000, random_state=np.random.default_rng(1)
    )
    assert found is not None
    assert found.se_bootstrap == pytest.approx(oracle.standard_error, rel=0.08)
    assert ratio(pairs) == found  # seeded


def test_a_cluster_counts_once_however_many_questions_repeat_it() -> None:
    once = ratio([(value, 1.0) for value in VALUES])
    thrice = ratio([(3 * value, 3.0) for value in VALUES])
    assert once is not None and thrice is not None
    assert thrice.se == pytest.approx(once.se)
    assert thrice.value == pytest.approx(once.value)


def test_a_ratio_of_scores_has_the_delta_methods_error() -> None:
    draw = np.random.default_rng(3)
    first = draw.normal(80, 5, 400)
    second = 0.9 * first + draw.normal(0, 4, 400)
    found = ratio(list(zip(second.tolist(), first.tolist(), strict=True)))
    residual = second - second.sum() / first.sum() * first
    assert found is not None
    assert found.se == pytest.approx(
        np.sqrt(400 / 399 * (residual**2).sum()) / first.sum(), rel=0.01
    )


def test_one_cluster_has_a_value_and_no_interval() -> None:
    found = ratio([(16.0, 2.0)])
    assert found is not None
    assert (found.value, found.se, found.low, found.se_bootstrap) == (8.0, None, None, None)


def test_nothing_has_no_value() -> None:
    assert ratio([]) is None
    assert macro([], []) is None


def test_equal_scores_have_no_spread() -> None:
    found = ratio([(7.0, 1.0)] * 5)
    assert found is not None
    assert (found.se, found.low, found.high) == (0.0, 7.0, 7.0)


def test_macro_counts_categories_not_questions() -> None:
    found = macro([[(8.0, 1.0), (18.0, 2.0)], [(5.0, 1.0), (4.0, 1.0)]], [["a", "b"], ["a", "c"]])
    assert found is not None
    assert found.value == pytest.approx((26 / 3 + 4.5) / 2)
    # a is in both categories; leaving it out changes both means at once
    left_out = [(9 + 4) / 2, (8 + 4.5) / 2, (26 / 3 + 5) / 2]
    assert found.se == pytest.approx(np.std(left_out) * np.sqrt(2))


def test_macro_of_a_category_in_one_cluster_alone_has_no_interval() -> None:
    found = macro([[(8.0, 1.0), (9.0, 1.0)], [(5.0, 1.0)]], [["a", "b"], ["a"]])
    assert found is not None
    assert (found.value, found.se) == (pytest.approx(6.75), None)
