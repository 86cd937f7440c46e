"""A sample of `make chaos`: twenty blows, on one machine and on a cluster with a bad S3."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.driver import Chaos, Shape
from tests.chaos.jobs import JobKind, write_media

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

LOCAL = Shape(
    local=True,
    on_s3=False,
    fault_rate=0.0,
    append_only=False,
    num_workers=1,
    num_controllers=1,
    flush_rows=1,
    num_blows=10,
)
CLUSTER = Shape(
    local=False,
    on_s3=True,
    fault_rate=0.03,
    append_only=True,
    num_workers=2,
    num_controllers=2,
    flush_rows=4,
    num_blows=10,
)


@pytest.fixture
def chaos(tmp_path: Path) -> Iterator[Chaos]:
    # A short path: sockets lie below it.
    with tempfile.TemporaryDirectory(prefix="nvc-", dir="/tmp") as folder:
        media = write_media(Path(folder) / "media", num_clips=8, questions_per_clip=15)
        yield Chaos(Path(folder), 5, JobKind(media, row_s=0.15), keep=tmp_path / "failed")


def test_no_row_is_lost_doubled_or_changed_by_twenty_blows_and_nothing_is_left_behind(
    chaos: Chaos,
) -> None:
    chaos.undisturbed()
    for number, shape in enumerate((LOCAL, CLUSTER)):
        verdict = chaos.one(number, shape)
        assert verdict.good, verdict
    totals = chaos.totals
    assert (totals.lost, totals.doubled, totals.different, totals.stuck) == (0, 0, 0, 0)
    assert totals.kills >= 20
