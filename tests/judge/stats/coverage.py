"""How often 95 % intervals hold the truth, on simulated comparisons of llava-bench's shape.

    python -m tests.judge.stats.coverage 4000

Scores are whole, cut off at 1 and 10, share what is hard about an image, and differ by category.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

from judge.stats.figures import Figures, Observation, figures

NAMES = ("mean", "difference", "relative", "win_rate")
_CATEGORIES = {"complex": 0.4, "conv": 0.0, "detail": -0.5}
_TRUTH_CLUSTERS = 40_000


def comparison(draw: random.Random, num_images: int) -> Iterator[Observation]:
    """Questions about `num_images` images, one to four about each, two and a half on average."""
    for image in range(num_images):
        hard, gap = draw.gauss(0, 1.2), draw.gauss(0.7, 0.8)
        for _ in range(draw.randint(1, 4)):
            category = draw.choice(tuple(_CATEGORIES))
            level = 7.8 + hard + _CATEGORIES[category] + draw.gauss(0, 0.8)
            first = level + draw.gauss(0, 0.8)
            second = level - gap + draw.gauss(0, 1.2)
            scores = (float(min(10, max(1, round(s)))) for s in (first, second))
            yield Observation(f"{image}", category, (next(scores), next(scores)))


def coverage(num_simulations: int, num_images: int, seed: int) -> dict[str, float]:
    """Share of simulations in which each figure's interval holds its true value."""
    draw = random.Random(seed)
    truth = _values(figures(list(comparison(draw, _TRUTH_CLUSTERS)), 10, resample=False))
    held = dict.fromkeys(NAMES, 0)
    for _ in range(num_simulations):
        found = _values(figures(list(comparison(draw, num_images)), 10, resample=False))
        for name in NAMES:
            held[name] += found[name][1] <= truth[name][0] <= found[name][2]
    return {name: count / num_simulations for name, count in held.items()}


def _values(found: Figures) -> dict[str, tuple[float, float, float]]:
    assert found.means is not None
    estimates = (found.means[1], found.difference, found.relative, found.win_rate)
    values: dict[str, tuple[float, float, float]] = {}
    for name, estimate in zip(NAMES, estimates, strict=True):
        assert estimate is not None and estimate.low is not None and estimate.high is not None
        values[name] = (estimate.value, estimate.low, estimate.high)
    return values


def main() -> int:
    num = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    worst = 0.0
    for num_images in (24, 60):
        shares = coverage(num, num_images, seed=num_images)
        words = " ".join(f"{name}={share:.3f}" for name, share in shares.items())
        print(f"coverage: images={num_images} simulations={num} {words}")
        worst = max(worst, *(abs(share - 0.95) for share in shares.values()))
    return 0 if worst <= 0.02 else 1


if __name__ == "__main__":
    sys.exit(main())
