"""Whether two answer sets differ at all, and how small a difference so many questions can show."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import compress, product
from operator import mul
from statistics import NormalDist

from judge.stats.estimate import CONFIDENCE, SEED
from judge.stats.student import t_quantile

POWER = 0.8
_EXACT_UP_TO = 12  # clusters; 4,096 sign patterns
_MOST_PATTERNS = 9999
_FEWEST_PATTERNS = 999
_MOST_SIGNS = 3_000_000
_LOW_BIT = bytes(byte & 1 for byte in range(256))
_ROUNDING = 1e-9  # sums that differ by less are equal


def sign_flip_p(differences: Sequence[float]) -> float | None:
    """Two-sided p of a paired permutation test: each cluster's summed difference may as well have
    had the other sign. Exact for few clusters, else by seeded random patterns, the observed one
    counted (Phipson and Smyth, 2010). None without a difference in any cluster.
    """
    given = [difference for difference in differences if difference]
    if not given:
        return None
    observed = abs(math.fsum(given)) * (1 - _ROUNDING)
    if len(given) <= _EXACT_UP_TO:
        patterns = product((1, -1), repeat=len(given))
        sums = (sum(map(mul, signs, given)) for signs in patterns)
        extreme = sum(abs(total) >= observed for total in sums)
        return float(extreme / 2 ** len(given))
    draw = random.Random(SEED)
    num = min(_MOST_PATTERNS, max(_FEWEST_PATTERNS, _MOST_SIGNS // len(given)))
    total = math.fsum(given)
    extreme = 0
    for _ in range(num):
        flipped = sum(compress(given, draw.randbytes(len(given)).translate(_LOW_BIT)))
        extreme += abs(total - 2 * flipped) >= observed
    return (extreme + 1) / (num + 1)


def smallest_difference(se: float | None, num_clusters: int) -> float | None:
    """The true difference that such a comparison finds significant in 80 % of cases, in the unit
    of `se`; None when there is no standard error, or nothing spread at all."""
    if not se or num_clusters < 2:
        return None
    return se * (t_quantile((1 + CONFIDENCE) / 2, num_clusters - 1) + NormalDist().inv_cdf(POWER))


def wilson(successes: int, num: int) -> tuple[float, float] | None:
    """95 % interval of a share (Wilson, 1927); None of nothing."""
    if not num:
        return None
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / num
    middle = (share + z * z / (2 * num)) / (1 + z * z / num)
    reach = z / (1 + z * z / num) * math.sqrt(share * (1 - share) / num + z * z / (4 * num * num))
    return max(0.0, middle - reach), min(1.0, middle + reach)
