"""Student's t distribution for whole degrees of freedom."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

_AS_GOOD_AS_NORMAL = 5000  # from here on the two differ in the fifth digit


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) for `df` >= 1 degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    theta = math.atan2(t, math.sqrt(df))
    sine, cosine_squared = math.sin(theta), math.cos(theta) ** 2
    term, total = (1.0, 0.0) if df % 2 == 0 else (math.cos(theta), 0.0)
    for k in range(1 if df % 2 == 0 else 2, df, 2):
        total += term
        term *= cosine_squared * k / (k + 1)
    if df % 2 == 0:
        return 0.5 * (1 + sine * total)
    return 0.5 + (theta + sine * total) / math.pi


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """The t with P(T <= t) = `p`, for 0.5 <= p < 1.

    Raises:
        ValueError: p or df is out of range.
    """
    if not 0.5 <= p < 1 or df < 1:
        raise ValueError(f"no quantile for p={p}, df={df}")
    if df >= _AS_GOOD_AS_NORMAL:
        return NormalDist().inv_cdf(p)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2
