"""Split and merge against real stores, with answers made up."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import orjson
import pytest

from controller.intake import REJECTED, Intake
from controller.merge import merge
from controller.split import split
from controller.spool import Spool
from neva.job_file import parse_job
from neva.ledger import FinishedRow, Ledger, LedgerCorrupt, Manifest, ShardRow, error_line, layout
from neva.store import Store

JOB = parse_job(
    {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "test"},
        "spec": {
            "model": {"uri": "/model"},
            "input": {"prompts": "/prompts.jsonl", "mediaBasePath": "/videos"},
            "output": {"uri": "/out"},
            "shards": {"maxRows": 2},
        },
    },
    "test",
)
# (video of row 0, of row 1, …); None is a row that validation refused.
VIDEOS = ["b.mp4", "a.mp4", None, "b.mp4", "a.mp4", "c.mp4"]


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool() as spool:
        for seq, video in enumerate(VIDEOS):
            record = {"question_id": seq, "text": "?", "video": video}
            if video is None:
                error = error_line(seq + 1, record, "MissingMediaKey", "no video")
                spool.add_line(REJECTED, seq, error)
            else:
                spool.add_row(ShardRow(seq, seq + 1, str(seq), "?", video, record))
        yield spool


@pytest.fixture
def manifest(ledger: Ledger, spool: Spool) -> Manifest:
    return split(JOB, ledger, spool, Intake(len(VIDEOS), 1, "sha"), "model")


def commit_all(ledger: Ledger, manifest: Manifest, failed: Collection[str] = ()) -> None:
    for plan in manifest.shards:
        rows = []
        for row in ledger.read_shard(plan):
            if row.row_id in failed:
                error = error_line(row.line, row.record, "MediaUnreadable", "broken")
                rows.append(FinishedRow(row.seq, row.row_id, None, error))
            else:
                output = {**row.record, "response": f"answer {row.row_id}"}
                rows.append(FinishedRow(row.seq, row.row_id, output, None))
        rows.reverse()  # rows finish in any order
        part = ledger.write_part(plan.number, 1, 1, rows)
        ledger.commit(plan.number, 1, [part], rows)


def lines(store: Store, key: str) -> list[dict[str, object]]:
    return [orjson.loads(line) for line in store.get(key).splitlines()]


def test_rows_are_grouped_by_video_in_the_order_of_their_first_question(
    ledger: Ledger,
    manifest: Manifest,
) -> None:
    row_ids = [[row.row_id for row in ledger.read_shard(plan)] for plan in manifest.shards]
    assert row_ids == [["0", "3"], ["1", "4"], ["5"]]
    assert (manifest.num_rows, manifest.num_rejected) == (6, 1)


def test_a_second_split_gives_the_same_manifest(ledger: Ledger, manifest: Manifest) -> None:
    with Spool() as other:
        again = split(JOB, ledger, other, Intake(0, 0, "other"), "model")
    assert again == manifest


def test_outputs_come_in_input_order_whatever_the_shards(
    ledger: Ledger, manifest: Manifest
) -> None:
    commit_all(ledger, manifest, failed={"4"})
    merged = merge(ledger, manifest)
    assert [row["question_id"] for row in lines(ledger.store, layout.OUTPUTS)] == [0, 1, 3, 5]
    errors = lines(ledger.store, layout.ERRORS)
    assert [(row["line"], row["reason"]) for row in errors] == [
        (3, "MissingMediaKey"),
        (5, "MediaUnreadable"),
    ]
    assert merged.num_answered == 4
    assert merged.failed_by_reason == {"MediaUnreadable": 1, "MissingMediaKey": 1}


def test_merging_twice_writes_the_same_bytes(ledger: Ledger, manifest: Manifest) -> None:
    commit_all(ledger, manifest)
    merge(ledger, manifest)
    first = ledger.store.get(layout.OUTPUTS)
    merge(ledger, manifest)
    assert ledger.store.get(layout.OUTPUTS) == first


def test_an_uncommitted_shard_is_no_short_file(ledger: Ledger, manifest: Manifest) -> None:
    commit_all(ledger, manifest)
    ledger.store.delete(layout.commit(1))
    with pytest.raises(Exception, match=r"shards/00001/commit\.json"):
        merge(ledger, manifest)
    assert ledger.store.head(layout.OUTPUTS) is None


def test_changed_rejections_are_noticed(ledger: Ledger, manifest: Manifest) -> None:
    commit_all(ledger, manifest)
    ledger.store.put(layout.REJECTED, b"")
    with pytest.raises(LedgerCorrupt, match=r"rejected\.jsonl"):
        merge(ledger, manifest)


def test_the_files_of_another_shard_are_not_taken_for_this_one(
    ledger: Ledger, manifest: Manifest
) -> None:
    commit_all(ledger, manifest)
    ledger.store.put(layout.commit(0), ledger.store.get(layout.commit(1)))
    with pytest.raises(LedgerCorrupt, match=r"shards/00000/commit\.json: no answer for 2 rows"):
        merge(ledger, manifest)
