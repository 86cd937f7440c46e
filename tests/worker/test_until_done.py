"""When a worker of a cluster goes."""

from __future__ import annotations

from pathlib import Path

import redis

from neva import queue
from neva.lease import Lease, Leases
from neva.ledger import FinishedRow, Ledger, Manifest, ShardRow
from neva.store import open_store
from worker.until_done import IdleRule, Look, RunWatch, Verdict

IDLE_S = 10.0


def look(now_s: float, **changes: object) -> Look:
    fields = {"num_open": 2, "num_leased": 2, "num_waiting": 0, "busy": False, **changes}
    return Look(now_s=now_s, **fields)  # type: ignore[arg-type]


def test_it_goes_when_every_shard_is_committed() -> None:
    assert IdleRule(IDLE_S).judge(look(0, num_open=0, busy=True)) is Verdict.DONE


def test_it_goes_after_an_idle_time_and_not_before() -> None:
    rule = IdleRule(IDLE_S)
    verdicts = [rule.judge(look(now_s)) for now_s in (0, 5, 9.9, 10)]
    assert verdicts == [Verdict.STAY] * 3 + [Verdict.IDLE]


def test_anything_to_do_starts_the_idle_time_again() -> None:
    for change in (
        {"busy": True},
        {"num_waiting": 1},
        {"num_leased": 1},
        {"num_leased": None, "num_waiting": None},
    ):
        rule = IdleRule(IDLE_S)
        rule.judge(look(0))
        assert rule.judge(look(20, **change)) is Verdict.STAY, change
        assert rule.judge(look(21)) is Verdict.STAY, change
        assert rule.judge(look(31)) is Verdict.IDLE, change


def test_a_run_is_watched_through_ledger_leases_and_queue(
    tmp_path: Path, redis_client: redis.Redis
) -> None:
    ledger = Ledger(open_store(str(tmp_path)))
    plans = [ledger.write_shard(n, [ShardRow(n, n + 1, str(n), "?", "v", {})]) for n in (0, 1)]
    manifest = Manifest("run", {}, "a", "m", "p", 2, 0, "r", plans)
    now_s = [0.0]
    leases = Leases(redis_client, "run", ttl_s=60)
    watch = RunWatch(manifest, ledger, redis_client, leases, IDLE_S, clock=lambda: now_s[0])

    def after(seconds: float, busy: bool = False) -> Verdict:
        now_s[0] += seconds
        return watch.look(busy)

    def commit(shard: int) -> None:
        rows = [FinishedRow(shard, str(shard), {}, None)]
        ledger.commit(shard, 1, [ledger.write_part(shard, 1, 1, rows)], rows)

    assert after(100) is Verdict.STAY, "both shards wait for somebody"
    commit(0)
    leases.beat(1, Lease(1, 0, 0))
    redis_client.lpush(queue.queue_name("run"), "message")
    assert after(100) is Verdict.STAY
    assert after(100) is Verdict.STAY, "a message waits"
    redis_client.delete(queue.queue_name("run"))
    assert after(100) is Verdict.STAY
    assert after(IDLE_S) is Verdict.IDLE
    commit(1)
    assert after(2) is Verdict.DONE
