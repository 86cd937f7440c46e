"""Stands in for a model's prompts where only rows are of interest."""

from __future__ import annotations

from collections.abc import Sequence

from neva.errors import RowError


class AnyQuestion:
    """Takes every question for one that fits."""

    def refused(self, questions: Sequence[str]) -> dict[int, RowError]:
        return {}
