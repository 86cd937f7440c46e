"""Wall clocks decide nothing: machines of one run may differ by minutes."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALL_CLOCK = re.compile(r"\btime\.time\b|datetime\.(now|utcnow|today)|date\.today")
# Who may read one, and why that decides nothing about a run's rows.
ALLOWED = {
    "neva/queue.py",  # kombu's own mark of a message's visibility: a hint, as all in Redis
    "neva/store/file.py",  # how long ago, for people
    "controller/local/logs.py",  # `neva logs --since`, against the times that log lines carry
    "judge/faults.py",  # an HTTP date in Retry-After
}
# Conditions, dates of nights and ages of files are wall time; rows are not theirs to decide.
APART = ("controller/operator/", "controller/nightly/", "controller/drop/")


def test_only_known_places_read_a_wall_clock() -> None:
    found = set()
    for role in ("neva", "worker", "controller", "judge"):
        for path in (ROOT / role).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(APART) and WALL_CLOCK.search(path.read_text(encoding="utf-8")):
                found.add(name)
    assert found == ALLOWED
