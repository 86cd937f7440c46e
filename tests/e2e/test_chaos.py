"""A sample of `make chaos`: twenty blows, on one machine and on a cluster with a bad S3."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.driver import Chaos, Shape
from tests.chaos.jobs import JobKind, read_answers, write_media
from tests.chaos.roles import Role
from tests.chaos.run import num_computed
from tests.chaos.world import LocalWorld
from tests.support.processes import is_running

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
        media = write_media(Path(folder) / "media", num_clips=6, questions_per_clip=18)
        yield Chaos(Path(folder), 5, JobKind(media, row_s=0.15), keep=tmp_path / "failed")


def test_no_row_is_lost_doubled_or_changed_by_twenty_blows_and_nothing_is_left_behind(
    chaos: Chaos,
) -> None:
    chaos.undisturbed()
    totals = chaos.totals
    # A run may end before it has taken all its blows: the next one takes the rest.
    shapes = [LOCAL, CLUSTER, LOCAL, CLUSTER, LOCAL, CLUSTER]
    for number, shape in enumerate(shapes):
        verdict = chaos.one(number, replace(shape, num_blows=min(10, 20 - totals.kills)))
        assert verdict.good, verdict
        if totals.kills >= 20:
            break
    assert (totals.lost, totals.doubled, totals.different, totals.stuck) == (0, 0, 0, 0)
    assert totals.kills >= 20


def test_a_celery_parent_that_is_stopped_for_good_is_replaced(chaos: Chaos) -> None:
    _stop_a_celery_parent(chaos, when=lambda world: num_computed(world) > 4)


@pytest.mark.slow
def test_a_celery_parent_that_is_stopped_while_it_starts_is_replaced(chaos: Chaos) -> None:
    _stop_a_celery_parent(chaos, when=lambda world: True)


def _stop_a_celery_parent(chaos: Chaos, when: Callable[[LocalWorld], bool]) -> None:
    job = chaos.kind.make(Path(tempfile.mkdtemp(dir=chaos.base)), None, {"NEVA_STALL_S": "4"})
    world = LocalWorld(job)
    stopped: list[int] = []
    try:
        while not world.keep():
            parents = world.members(Role.CONSUMER)
            if not stopped and parents and when(world):
                stopped.append(parents[0].pid)
                os.kill(stopped[0], signal.SIGSTOP)
            time.sleep(0.05)
        assert stopped
        assert not is_running(stopped[0])
    finally:
        world.close()
    assert len(read_answers(job).ids) == 110
