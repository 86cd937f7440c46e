"""Lines over a logarithmic axis of workers, as an SVG that needs nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_WIDTH, _HEIGHT = 760, 380
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 216, 44, 52
# Dark enough to be read on white, and told apart by those who see no red or green.
_COLOURS: Final = ("#00695c", "#b24700", "#3949ab", "#8e24aa", "#5d4037")
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "1 4")

Points = Sequence[tuple[float, float]]


def line_chart(title: str, x_words: str, y_words: str, lines: Mapping[str, Points]) -> str:
    """A chart of shares (0 to 1) over positive numbers.

    Args:
        lines: points by name, ascending.
    """
    xs = sorted({x for points in lines.values() for x, _ in points})
    low, high = math.log10(xs[0]), math.log10(xs[-1])
    bottom = _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        share = (math.log10(x) - low) / (high - low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT), bottom - y * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="13" fill="#222"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff"/>',
        f'<text x="{_LEFT}" y="24" font-weight="bold">{escape(title)}</text>',
    ]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        left, y = at(xs[0], tick)
        right, _ = at(xs[-1], tick)
        parts.append(
            f'<line x1="{left}" y1="{y}" x2="{right}" y2="{y}" stroke="#ddd"/>'
            f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick:.0%}</text>'
        )
    for x in xs:
        place, _ = at(x, 0)
        parts.append(f'<text x="{place}" y="{bottom + 18}" text-anchor="middle">{x:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 12}" text-anchor="middle">{escape(x_words)}</text>'
        f'<text x="16" y="{(bottom + _TOP) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(bottom + _TOP) / 2})">{escape(y_words)}</text>'
    )
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        dash = _DASHES[number % len(_DASHES)]
        places = [at(x, min(1.0, y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        style = f'stroke="{colour}" stroke-width="2.2" stroke-dasharray="{dash}" fill="none"'
        parts.append(f'<polyline points="{path}" {style}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        key_y = _TOP + 10 + 22 * number
        key_x = _WIDTH - _RIGHT + 16
        parts.append(
            f'<line x1="{key_x}" y1="{key_y}" x2="{key_x + 30}" y2="{key_y}" {style}/>'
            f'<text x="{key_x + 38}" y="{key_y + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"
