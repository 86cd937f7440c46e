"""Nothing lost, nothing doubled, whatever happens in whatever order."""

from __future__ import annotations

import pytest

from tests.ledger_model.machine import NUM_EXAMPLES, search


@pytest.mark.timeout(900)  # a violation is made shorter for minutes
def test_nothing_is_lost_or_doubled_whatever_happens() -> None:
    search(NUM_EXAMPLES)
