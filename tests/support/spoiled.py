"""JSON that is not as its writer wrote it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

_ODD = (None, -(10**15), "x", [[]], {"a": []})


def spoiled_forms(value: Any) -> Iterator[Any]:
    """The value with one place in it replaced, or missing."""
    yield from _ODD
    if isinstance(value, dict | list):
        places = list(value) if isinstance(value, dict) else range(min(1, len(value)))
        for place in places:
            shorter = copy.deepcopy(value)
            del shorter[place]
            yield shorter
            for odd in spoiled_forms(value[place]):
                other = copy.deepcopy(value)
                other[place] = odd
                yield other
