"""A change costs the same however many jobs there are, and doing nothing costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operator.scale import measure

pytestmark = [pytest.mark.e2e, pytest.mark.operator, pytest.mark.timeout(900)]


def test_the_cost_of_a_change_does_not_grow_with_the_number_of_jobs(
    tmp_path: Path, broker_url: str, s3_endpoint: str
) -> None:
    few, many = (tmp_path / name for name in ("few", "many"))
    few.mkdir()
    many.mkdir()
    small, large = measure(30, few, broker_url), measure(300, many, broker_url)
    assert large.requests_per_change <= small.requests_per_change + 0.5
    assert large.requests_per_new_job <= small.requests_per_new_job + 0.5
    assert large.idle_requests_per_s < 1
