"""progress.json: what a controller had counted some minutes ago. A hint that spares reads.

What it says stays true, since commits are never taken back; only when it was written matters
little: who counts takes it, and adds what the ledger says of the shards that it lacks. Nothing is
decided by it. It lacks the commits of the last minutes, whose times say how fast a run is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from neva.ledger import layout
from neva.ledger.records import Commit, LedgerCorrupt, Record
from neva.store.base import Store

SETTLED_AFTER_S = 300.0
"""Age from which on commits are in a snapshot."""
_MOST_SHARDS = 2_000_000


@dataclass(frozen=True, slots=True)
class Snapshot(Record):
    """Counts of shards whose commits are old.

    Attributes:
        shards: (first, last) of runs of consecutive numbers.
    """

    shards: list[tuple[int, int]] = field(default_factory=list)
    num_failed: int = 0
    failed_by_reason: dict[str, int] = field(default_factory=dict)

    def _check(self) -> None:
        # Before anybody counts them one by one.
        num_shards = sum(last + 1 - first for first, last in self.shards)
        if num_shards > _MOST_SHARDS or any(not 0 <= a <= b for a, b in self.shards):
            raise ValueError("no run has these shards")

    def numbers(self) -> set[int]:
        """The shards one by one."""
        return {number for first, last in self.shards for number in range(first, last + 1)}


def read_snapshot(store: Store) -> Snapshot:
    """The latest one; an empty one when there is none, or none that can be understood."""
    data = store.get_or_none(layout.PROGRESS)
    if data is None:
        return Snapshot()
    try:
        return Snapshot.from_json(data, layout.PROGRESS)
    except LedgerCorrupt:
        return Snapshot()


class SnapshotWriter:
    """Keeps the counts of a controller's commits, and writes them down once they are old."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._settled: set[int] = set()
        self._num_failed = 0
        self._reasons: Counter[str] = Counter()
        self._fresh: deque[tuple[float, int, Commit]] = deque()

    def start_from(self, snapshot: Snapshot) -> None:
        self._settled = snapshot.numbers()
        self._num_failed = snapshot.num_failed
        self._reasons = Counter(snapshot.failed_by_reason)

    def add(self, now_s: float, number: int, commit: Commit) -> None:
        self._fresh.append((now_s, number, commit))

    def write_if_due(self, now_s: float) -> bool:
        """Write down what became old. The latest commit never does: its time is of interest.

        Store errors pass through; nothing is forgotten then.
        """
        num_settled = len(self._settled)
        while len(self._fresh) > 1 and now_s - self._fresh[0][0] >= SETTLED_AFTER_S:
            _, number, commit = self._fresh.popleft()
            self._settled.add(number)
            self._num_failed += commit.num_failed
            self._reasons.update(commit.failed_by_reason)
        if len(self._settled) == num_settled:
            return False
        runs = list(_runs(self._settled))
        snapshot = Snapshot(runs, self._num_failed, dict(sorted(self._reasons.items())))
        self._store.put(layout.PROGRESS, snapshot.to_json())
        return True


def _runs(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None:
            first = number
        elif number != last + 1:
            yield first, last
            first = number
        last = number
    if first is not None and last is not None:
        yield first, last
