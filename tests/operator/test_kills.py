"""The operator's process is killed between two API calls: nothing is lost, made twice or left.

Here a few seeded cut points of a real process with real workers; every cut point, with the pods'
work played, is in test_cut_points.
"""

from __future__ import annotations

import random
import signal

import pytest

from tests.operator.bench import Bench
from tests.operator.test_course import check_answers

pytestmark = [pytest.mark.e2e, pytest.mark.operator, pytest.mark.timeout(1500)]

MOST_WRITES = 14  # of an undisturbed course, about


@pytest.mark.parametrize("seed", range(4))
def test_the_operator_is_killed_at_a_write(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    cut = f"{rng.choice(['before', 'after'])}:{rng.randint(1, MOST_WRITES)}"
    bench.stop_operator()
    operator = bench.start_operator(cut=cut)
    bench.apply(bench.manifest())
    while operator.poll() is None:
        # A course with fewer writes than that ends undisturbed.
        if bench.status("kitchen").get("phase") == "Succeeded":
            bench.stop_operator(signal.SIGKILL)
    assert operator.returncode == -signal.SIGKILL
    bench.start_operator()
    status = bench.wait_phase("kitchen", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded", (cut, status)
    check_answers(bench, "kitchen")
    names = [job["metadata"]["name"] for job in bench.children()]
    # Workers that are still leaving when the finish has ended are deleted.
    all_names = {"kitchen-finish", "kitchen-prepare", "kitchen-workers-1"}
    assert set(names) | {"kitchen-workers-1"} == all_names, cut
    told = [event["message"].split(":")[0] for event in bench.events()]
    assert told.count("Succeeded") == 1, cut
