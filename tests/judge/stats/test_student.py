from __future__ import annotations

import pytest
from scipy import stats

from judge.stats.student import t_cdf, t_quantile


@pytest.mark.parametrize("df", [1, 2, 3, 4, 7, 23, 60, 999, 4999])
@pytest.mark.parametrize("p", [0.5, 0.8, 0.975, 0.9995])
def test_quantiles_are_those_of_scipy(df: int, p: float) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("t", [-3.0, -0.5, 0.0, 0.1, 2.0, 12.7])
def test_probabilities_are_those_of_scipy(t: float) -> None:
    for df in (1, 2, 5, 24):
        assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), abs=1e-12)


def test_many_degrees_of_freedom_are_normal() -> None:
    assert t_quantile(0.975, 10_000) == pytest.approx(stats.t.ppf(0.975, 10_000), rel=2e-4)


@pytest.mark.parametrize(("p", "df"), [(0.4, 3), (1.0, 3), (0.9, 0)])
def test_out_of_range_is_refused(p: float, df: int) -> None:
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(p, df)
