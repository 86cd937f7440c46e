"""The runs as the operator looks at them: real broker, ledger on disk."""

from __future__ import annotations

from pathlib import Path

import redis

from controller.operator.runs import LedgerRuns
from controller.summary import write_summary
from neva import queue
from neva.conditions import ConditionReason
from neva.errors import NevaError
from neva.lease import Lease, Leases
from neva.ledger import FinishedRow, Ledger, Manifest, ShardRow
from neva.rate import RateWindow
from neva.reasons import Reason
from neva.store import open_store
from neva.trouble import report_trouble
from tests.controller.runs import SUMMARY

RUN = "run7"


def write_run(folder: Path) -> tuple[Ledger, Manifest]:
    """Three shards of two rows."""
    ledger = Ledger(open_store(str(folder)))
    plans = [
        ledger.write_shard(
            n, [ShardRow(s, s + 1, str(s), "?", "v", {}) for s in (2 * n, 2 * n + 1)]
        )
        for n in range(3)
    ]
    return ledger, ledger.write_manifest(Manifest(RUN, {}, "a", "m", "p", 6, 0, "r", plans))


def commit(ledger: Ledger, manifest: Manifest, shard: int) -> None:
    plan = manifest.shards[shard]
    rows = [FinishedRow(row.seq, row.row_id, {}, None) for row in ledger.read_shard(plan)]
    part = ledger.write_part(shard, 1, 1, rows)
    ledger.commit(shard, 1, [part], rows)


def test_a_run_that_was_not_prepared_is_seen_as_such(tmp_path: Path, broker_url: str) -> None:
    seen = LedgerRuns(broker_url).look("u", str(tmp_path), listing=False)
    assert (seen.run_id, seen.problem) == (None, None)


def test_a_look_counts_and_enqueues(
    tmp_path: Path, broker_url: str, redis_client: redis.Redis
) -> None:
    ledger, manifest = write_run(tmp_path)
    commit(ledger, manifest, 0)
    Leases(redis_client, RUN, 60).beat(1, Lease(1, 1, 0))
    seen = LedgerRuns(broker_url).look("u", str(tmp_path), listing=False)
    assert (seen.run_id, seen.num_rows, seen.num_done) == (RUN, 6, 3)
    assert (seen.num_shards, seen.num_shards_done, seen.active) == (3, 1, True)
    assert queue.depth(redis_client, RUN).ready == 1, "one is done, one at work"


def test_the_summary_and_the_score_are_seen_at_the_end(tmp_path: Path, broker_url: str) -> None:
    ledger, manifest = write_run(tmp_path)
    for shard in range(3):
        commit(ledger, manifest, shard)
    runs = LedgerRuns(broker_url)
    assert runs.look("u", str(tmp_path), listing=False).summary is None
    write_summary(ledger.store, {**SUMMARY, "judge": {"num_judged": 1}})
    ledger.store.put("judge/scores.json", b'{"all": {"relative": 87.46}}')
    seen = runs.look("u", str(tmp_path), listing=True)
    assert seen.all_committed
    assert seen.summary is not None and seen.summary["state"] == "Succeeded"
    assert seen.score == "87.5"


def test_a_broker_or_store_that_is_away_is_a_problem_and_no_error(tmp_path: Path) -> None:
    write_run(tmp_path)
    seen = LedgerRuns(f"unix://{tmp_path}/nobody").look("u", str(tmp_path), listing=False)
    assert seen.problem is not None
    assert seen.problem[0] is ConditionReason.BROKER_UNREACHABLE
    (tmp_path / "manifest.json").write_bytes(b"{")
    seen = LedgerRuns(f"unix://{tmp_path}/nobody").look("u", str(tmp_path), listing=False)
    assert seen.problem is not None
    assert seen.problem[0] is ConditionReason.STORE_UNREACHABLE
    assert "manifest.json" in seen.problem[1]


def test_a_purge_empties_the_broker_of_this_run_alone_and_no_outputs(
    tmp_path: Path, broker_url: str, redis_client: redis.Redis
) -> None:
    write_run(tmp_path)
    runs = LedgerRuns(broker_url)
    runs.look("u", str(tmp_path), listing=False)
    Leases(redis_client, RUN, 60).beat(0, Lease(1, 0, 0))
    report_trouble(redis_client, RUN, NevaError("x", reason=Reason.STORE_DENIED))
    with queue.make_app(broker_url, "other") as other:
        queue.send(other, queue.ShardMessage("other", 0))
    # A worker took one message and died with it.
    with queue.make_app(broker_url, RUN) as app, app.connection_for_read() as connection:
        channel = connection.channel()
        app.amqp.queues[queue.queue_name(RUN)](channel).declare()
        assert channel.basic_get(queue.queue_name(RUN)) is not None
        assert redis_client.hlen("unacked") == 1
        before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
        runs.purge(RUN)
        left = [key.decode() for key in redis_client.keys("*")]
        assert not [key for key in left if RUN in key]
        assert redis_client.hlen("unacked") == 0
        channel.qos._delivered.clear()
    assert queue.depth(redis_client, "other").ready == 1
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before


def test_a_new_round_forgets_the_troubles_of_the_last(
    broker_url: str, redis_client: redis.Redis
) -> None:
    report_trouble(redis_client, RUN, NevaError("x", reason=Reason.STORE_DENIED))
    LedgerRuns(broker_url).start_round(RUN)
    assert redis_client.keys("*trouble*") == []


def test_the_rate_begins_with_the_first_row_and_follows_the_last_minutes() -> None:
    rate = RateWindow()
    for now_s in range(0, 100, 10):
        rate.add(now_s, 0)
    assert rate.rows_per_s is None
    for second in range(100, 300, 10):
        rate.add(second, (second - 90) * 2)
    assert rate.rows_per_s == 2.0
    for second in range(300, 500, 10):
        rate.add(second, 420 + (second - 300))
    assert rate.rows_per_s == 1.0
    assert rate.eta_s(60) == (60.0, 60.0)


def test_the_time_left_is_a_range_while_the_rate_changes() -> None:
    rate = RateWindow()
    for second in range(0, 60, 10):
        rate.add(second, second)
    for second in range(60, 120, 10):
        rate.add(second, 60 + (second - 60) * 3)
    low, high = rate.eta_s(300) or (0.0, 0.0)
    assert low == 100.0
    assert 100.0 < high < 300.0


def test_counts_that_step_back_are_no_negative_rate() -> None:
    rate = RateWindow()
    rate.add(0, 0)
    rate.add(10, 50)
    rate.add(20, 30)
    assert rate.rows_per_s == 2.5
