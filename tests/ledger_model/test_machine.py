"""Nothing lost, nothing doubled, whatever happens in whatever order."""

from __future__ import annotations

from tests.ledger_model.machine import NUM_EXAMPLES, search


def test_nothing_is_lost_or_doubled_whatever_happens() -> None:
    search(NUM_EXAMPLES)
