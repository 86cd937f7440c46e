"""What the ledger tells about a run: the reads behind `neva status`.

A listing of the shards that are open or were done in the last minutes, one small read for each of
these commits and for each part of a shard at work; of the others a controller has left the counts
(`neva.ledger.snapshot`). Times are the store's own, on both sides of every difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from controller.manifest import read_manifest
from controller.summary import read_scores, read_summary
from neva.errors import ConfigError
from neva.ledger import Ledger, Manifest, PartRef, layout
from neva.ledger.control import PREFIX as CONTROL
from neva.ledger.control import Control, Order
from neva.ledger.snapshot import SETTLED_AFTER_S, Snapshot, read_snapshot
from neva.store import Store
from neva.store.base import ObjectInfo

_NUM_READERS = 16
_RATE_WINDOW_S = SETTLED_AFTER_S
_JUDGE_FILES = "judge/"


@dataclass(slots=True)
class ShardFiles:
    """What a listing of shards shows.

    Attributes:
        committed: when, by shard.
        parts: by shard, of all its attempts.
    """

    committed: dict[int, float | None] = field(default_factory=dict)
    parts: dict[int, list[ObjectInfo]] = field(default_factory=dict)
    last_attempt: dict[int, int] = field(default_factory=dict)
    released: set[tuple[int, int]] = field(default_factory=set)
    first_claim_s: float | None = None
    last_write_s: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a run. Times are seconds since the epoch by the store's clock.

    Attributes:
        manifest: None before the rows are divided.
        order: what holds; None when the run may go on.
        runner: the last `neva run`, as a process on a host; None on a cluster.
        runner_gone: the last `neva run` said its goodbye, or ran on this machine and is not there.
        num_done, num_failed: rows, failed ones in both.
        num_working: open shards whose last attempt has not said its goodbye.
        recent: rows finished within `recent_s`; both None without a clock.
        recent_late: those of them in its later half.
        summary, succeeded: of a run that is merged.
        refused: there are errors and no manifest: too many rows were bad.
        judge: judge/scores.json once it is there.
        judging: the judge has answered something.
        num_open_done: rows of open shards in `num_done`.
        files: of the shards that are open, or were done in the last minutes.
    """

    uri: str
    now_s: float | None
    last_write_s: float | None
    manifest: Manifest | None = None
    order: Order | None = None
    runner_gone: bool = False
    runner: str | None = None
    num_done: int = 0
    num_failed: int = 0
    num_committed: int = 0
    num_working: int = 0
    recent: int | None = None
    recent_s: float | None = None
    recent_late: int = 0
    failed_by_reason: dict[str, int] = field(default_factory=dict)
    summary: dict[str, Any] | None = None
    succeeded: bool = False
    refused: bool = False
    judge: dict[str, Any] | None = None
    judging: bool = False
    num_open_done: int = 0
    files: ShardFiles = field(default_factory=ShardFiles)


def look(ledger: Ledger) -> Facts:
    """Look once.

    Raises:
        ConfigError: there is no run.
        StoreError: the store can't be had.
        LedgerCorrupt: a file is not as it was written.
    """
    store = ledger.store
    now_s = store.now_s()
    manifest = read_manifest(ledger)
    standing = Control(store).look()
    control = {item.key: item for item in store.list(CONTROL)}
    gone, runner = _last_runner(store, standing.num_runners)
    rows_of = {} if manifest is None else {plan.number: plan.num_rows for plan in manifest.shards}
    old = read_snapshot(store) if rows_of else Snapshot()
    shards = list_files(ledger, rows_of.keys() - old.numbers())
    last_write_s = _latest([shards.last_write_s, *(item.modified_s for item in control.values())])
    if manifest is None:
        refused = store.head(layout.ERRORS) is not None
        if not refused and not control and last_write_s is None:
            raise ConfigError(f"{store.uri_of(layout.MANIFEST)} does not exist: no run there")
        return Facts(
            store.base_uri,
            now_s,
            last_write_s,
            order=standing.order,
            runner_gone=gone,
            runner=runner,
            refused=refused,
        )
    summary = read_summary(store)
    counts = _count(ledger, manifest, shards, old, now_s, summary)
    return Facts(
        store.base_uri,
        now_s,
        last_write_s,
        manifest,
        standing.order,
        gone,
        runner,
        summary=summary,
        succeeded=store.head(layout.SUCCESS) is not None,
        judge=read_scores(store),
        judging=next(iter(store.list(_JUDGE_FILES)), None) is not None,
        files=shards,
        **counts,
    )


def _latest(times_s: Iterable[float | None]) -> float | None:
    return max((time_s for time_s in times_s if time_s is not None), default=None)


def _last_runner(store: Store, number: int) -> tuple[bool, str | None]:
    """Whether it is gone for certain, and who it was."""
    if number == 0:
        return False, None
    control = Control(store)
    beat, record = control.last_beat(number), control.runner(number)
    return (beat is not None and beat.ended) or record.identity.is_gone, record.words


def list_files(ledger: Ledger, among: Collection[int]) -> ShardFiles:
    """Of some shards; without any, of the run's inputs, which are written before its manifest."""
    shards, wanted = ShardFiles(), set(among)
    for item in ledger.list_shards(among) if among else ledger.store.list(layout.INPUTS):
        if item.modified_s is not None:
            shards.last_write_s = max(shards.last_write_s or 0.0, item.modified_s)
        # A listing has their neighbours, too, and whatever somebody else has put there.
        if (number := layout.committed_shard(item.key)) is not None:
            if number in wanted:
                shards.committed[number] = item.modified_s
        elif (file := layout.attempt_file(item.key)) is not None and file[0] in wanted:
            number, attempt, name = file
            shards.last_attempt[number] = max(shards.last_attempt.get(number, 0), attempt)
            if name == "release.json":
                shards.released.add((number, attempt))
            elif name.startswith("part-"):
                shards.parts.setdefault(number, []).append(item)
            elif item.modified_s is not None:
                first_s = shards.first_claim_s
                shards.first_claim_s = min(first_s or item.modified_s, item.modified_s)
    return shards


def _count(
    ledger: Ledger,
    manifest: Manifest,
    shards: ShardFiles,
    old: Snapshot,
    now_s: float | None,
    summary: dict[str, Any] | None,
) -> dict[str, Any]:
    rows_of = {plan.number: plan.num_rows for plan in manifest.shards}
    settled = old.numbers() & rows_of.keys()
    opened = rows_of.keys() - shards.committed.keys() - settled
    at_work = [n for n in opened if n in shards.last_attempt]
    window_s = _RATE_WINDOW_S if settled else _window_s(shards, now_s)
    since_s = None if now_s is None or window_s is None else now_s - window_s
    half_s = None if now_s is None or window_s is None else now_s - window_s / 2
    finished = [(rows_of[number], at_s) for number, at_s in shards.committed.items()]
    reasons = Counter(old.failed_by_reason)
    num_failed, num_open_done = old.num_failed, 0
    with ThreadPoolExecutor(_NUM_READERS, thread_name_prefix="status") as pool:
        commits = dict(
            zip(shards.committed, pool.map(ledger.read_commit, shards.committed), strict=True)
        )
        for commit in commits.values():
            num_failed += commit.num_failed
            reasons.update(commit.failed_by_reason)
        read_of = lambda number: _rows(ledger, shards.parts.get(number, []))  # noqa: E731
        for rows in pool.map(read_of, at_work):
            num_open_done += len(rows)
            for reason, at_s in rows.values():
                if reason is not None:
                    num_failed += 1
                    reasons[reason] += 1
                finished.append((1, at_s))
    if summary is not None:
        reasons = Counter(summary["failed_by_reason"])
    else:
        reasons.update(_rejected_reasons(ledger, manifest))
    return {
        "num_done": manifest.num_rejected
        + sum(rows_of[number] for number in (*shards.committed, *settled))
        + num_open_done,
        "num_failed": manifest.num_rejected + num_failed,
        "num_committed": len(shards.committed) + len(settled),
        "num_working": sum((n, shards.last_attempt[n]) not in shards.released for n in at_work),
        "num_open_done": num_open_done,
        "recent": None if since_s is None else _after(since_s, finished),
        "recent_late": 0 if half_s is None else _after(half_s, finished),
        "recent_s": window_s,
        "failed_by_reason": dict(sorted(reasons.items())),
    }


def _after(since_s: float, finished: Iterable[tuple[int, float | None]]) -> int:
    """Rows that were finished since; of (rows, when)."""
    return sum(num for num, at_s in finished if at_s is not None and at_s > since_s)


def _window_s(shards: ShardFiles, now_s: float | None) -> float | None:
    """Seconds up to now that the rate is of: since the first claim, at most five minutes."""
    if now_s is None or shards.first_claim_s is None:
        return None
    return max(1.0, min(_RATE_WINDOW_S, now_s - shards.first_claim_s))


def _rows(ledger: Ledger, parts: list[ObjectInfo]) -> dict[str, tuple[str | None, float | None]]:
    """Finished rows of a shard by id: why it failed, if it did, and when it was written."""
    found: dict[str, tuple[str | None, float | None]] = {}
    for item in parts:
        for row in ledger.read_parts([PartRef(item.key, "")]):
            reason = None if row.error is None else str(row.error["reason"])
            found.setdefault(row.row_id, (reason, item.modified_s))
    return found


def _rejected_reasons(ledger: Ledger, manifest: Manifest) -> Iterable[str]:
    for row in ledger.refused_rows(manifest):
        if row.error is not None:
            yield row.error["reason"]
