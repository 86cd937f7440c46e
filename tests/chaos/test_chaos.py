"""The chaos suite's own eyes: it must see what it is there to see."""

from __future__ import annotations

import random
import time
from pathlib import Path

from tests.chaos import variables
from tests.chaos.blows import draw
from tests.chaos.jobs import Answers, differences
from tests.chaos.redelivery import p95
from tests.chaos.run import late_writes
from tests.chaos.world import LocalWorld, left_behind
from tests.support.jobs import JobFolder
from tests.support.s3_proxy import Fault, S3Proxy, Weather


def answers(*outputs: str, errors: tuple[str, ...] = ()) -> Answers:
    def line(words: str) -> bytes:
        row_id, _, said = words.partition(" ")
        return f'{{"question_id":"{row_id}","response":"{said}"}}'.encode()

    return Answers(tuple(map(line, outputs)), tuple(map(line, errors)))


def test_lost_doubled_and_changed_rows_are_told_apart() -> None:
    right = answers("a yes", "b no", errors=("c broken",))
    assert differences(right, right) == (0, 0, 0)
    assert differences(answers("a yes", errors=("c broken",)), right)[:2] == (1, 0)
    doubled = answers("a yes", "b no", "b no", errors=("c broken",))
    assert differences(doubled, right)[:2] == (0, 1)
    assert differences(answers("a yes", "b NO", errors=("c broken",)), right) == (0, 0, 1)
    given_up = answers("a yes", errors=("b killed", "c broken"))
    assert differences(given_up, right)[2] > 0, "an answer became an error"


def test_files_that_are_left_and_parts_that_come_too_late_are_seen(tmp_path: Path) -> None:
    job = JobFolder(tmp_path, environment={variables.MARK: str(tmp_path)})
    world = LocalWorld(job)
    attempts = tmp_path / "out/shards/00000/attempts"
    for number in (1, 2):
        (attempts / str(number)).mkdir(parents=True)
        (attempts / str(number) / "claim.json").touch()
    (attempts / "2" / "part-0001.jsonl").touch()
    assert (left_behind(job), late_writes(world)) == ([], [])
    time.sleep(0.01)
    late = attempts / "1" / "part-0001.jsonl"
    late.touch()
    assert late_writes(world) == [], "on its way already"
    assert late_writes(world, allowed_s=0.0) != []
    (tmp_path / "shm").mkdir()
    (tmp_path / "shm" / "pixels").touch()
    (tmp_path / "out" / ".neva-tmp-x").touch()
    assert len(left_behind(job)) == 2


def test_a_seed_draws_the_same_blows_and_the_same_weather() -> None:
    blows = [[draw(random.Random(3), 2.0, 6.0) for _ in range(20)] for _ in range(2)]
    assert blows[0] == blows[1]
    faults = [_faults(Weather(3, 0.1, outage_s=0.0)) for _ in range(2)]
    assert faults[0] == faults[1]
    assert sum(fault is not None for fault in faults[0]) > 5


def _faults(weather: Weather) -> list[Fault | None]:
    return [weather.draw("PUT", "/k", True) for _ in range(200)]


def test_a_stale_listing_lacks_what_is_newest_and_nothing_else() -> None:
    proxy = S3Proxy("")
    proxy.put_at_s = {"/b/run/old key": time.time() - 60, "/b/run/new key": time.time()}
    listing = (
        b"<ListBucketResult><Name>b</Name><Contents><Key>run/new%20key</Key></Contents>"
        b"<Contents><Key>run/old%20key</Key></Contents></ListBucketResult>"
    )
    seen = proxy.without_newest(listing, 5.0)
    assert b"old%20key" in seen
    assert b"new%20key" not in seen


def test_the_95th_percentile_of_a_hundred_is_the_96th() -> None:
    assert p95([float(n) for n in range(100)]) == 95.0
