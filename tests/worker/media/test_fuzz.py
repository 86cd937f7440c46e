"""A sample of what `make fuzz-media` does."""

from __future__ import annotations

from pathlib import Path

from neva.reasons import Reason
from tests.worker.media.fuzz import LIMITS, fuzz

KNOWN = {
    "answered",
    *(Reason.MEDIA_UNREADABLE, Reason.MEDIA_EMPTY, Reason.MEDIA_TOO_LARGE),
    *(Reason.MEDIA_TIMEOUT, Reason.DECODER_CRASHED),
}


def test_no_mutated_file_is_lost_or_hangs(tmp_path: Path) -> None:
    outcome = fuzz(tmp_path, num_files=60, seed=7)
    assert outcome.reasons.total() == 60
    assert set(outcome.reasons) <= KNOWN
    assert outcome.reasons["answered"] > 5
    assert outcome.reasons[Reason.MEDIA_UNREADABLE] > 5
    assert outcome.slowest_s < 2 * LIMITS.decode_timeout_s + 10
