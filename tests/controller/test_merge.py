"""Split and merge against real stores, with answers made up."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import orjson
import pytest

from controller.intake import take_in
from controller.merge import merge
from controller.split import split
from neva.ledger import FinishedRow, Ledger, LedgerCorrupt, Manifest, error_line, layout
from neva.spec import VideoNevaJob
from neva.store import Store
from tests.controller.test_start import job as a_job
from tests.fakes.questions import AnyQuestion

# (video of row 0, of row 1, …); None is a row that validation refused.
VIDEOS = ["b.mp4", "a.mp4", None, "b.mp4", "a.mp4", "c.mp4"]


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store)


@pytest.fixture
def job(tmp_path: Path) -> VideoNevaJob:
    """Two rows a shard."""
    (tmp_path / "videos").mkdir()
    with (tmp_path / "prompts.jsonl").open("wb") as file:
        for seq, video in enumerate(VIDEOS):
            record = {"question_id": seq, "text": "?", **({"video": video} if video else {})}
            file.write(orjson.dumps(record) + b"\n")
            if video:
                (tmp_path / "videos" / video).touch()
    return a_job(tmp_path, shards={"maxRows": 2})


def split_again(job: VideoNevaJob, ledger: Ledger) -> Manifest:
    with take_in(job.spec, AnyQuestion(), lookups=2) as intake:
        return split(job, ledger, intake, "model")


@pytest.fixture
def manifest(ledger: Ledger, job: VideoNevaJob) -> Manifest:
    return split_again(job, ledger)


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


def test_a_second_split_gives_the_same_manifest(
    ledger: Ledger, manifest: Manifest, job: VideoNevaJob
) -> None:
    Path(job.spec.input.prompts).write_bytes(b'{"question_id":1,"text":"?","video":"a.mp4"}\n')
    assert split_again(job, ledger) == manifest


def test_of_two_splits_that_find_different_media_the_first_manifest_holds_with_all_it_names(
    ledger: Ledger, job: VideoNevaJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is through with its files, too, before either has a manifest."""
    write_manifest = Ledger.write_manifest
    with take_in(job.spec, AnyQuestion(), lookups=2) as first:
        Path(job.spec.media_base_path, "b.mp4").unlink()
        with take_in(job.spec, AnyQuestion(), lookups=2) as second:
            found: list[Manifest] = []

            def others_come_first(ledger: Ledger, manifest: Manifest) -> Manifest:
                monkeypatch.setattr(Ledger, "write_manifest", write_manifest)
                found.append(split(job, ledger, first, "model"))
                return write_manifest(ledger, manifest)

            monkeypatch.setattr(Ledger, "write_manifest", others_come_first)
            found.append(split(job, ledger, second, "model"))
            found.append(split(job, ledger, second, "model"))
    assert found == [found[0]] * 3
    commit_all(ledger, found[0])
    assert merge(ledger, found[0]).num_answered == 5
    assert [row["line"] for row in lines(ledger.store, layout.ERRORS)] == [3]


def test_several_processes_write_the_same_packs(
    ledger: Ledger, job: VideoNevaJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.parked._PACK_BYTES", 60)  # a shard or two
    with take_in(job.spec, AnyQuestion(), lookups=2, processes=1) as intake:
        several = split(job, ledger, intake, "model", processes=3)
        packs = {item.key: ledger.store.get(item.key) for item in ledger.store.list("inputs/")}
        ledger.store.delete(layout.MANIFEST)
        assert split(job, ledger, intake, "model", processes=1) == several
    assert len(packs) > 1
    for key, data in packs.items():
        assert ledger.store.get(key) == data
    rows = [row.seq for plan in several.shards for row in ledger.read_shard(plan)]
    assert rows == [0, 3, 1, 4, 5]


def test_an_output_in_other_words_than_ours_is_merged_as_strictly(
    ledger: Ledger, manifest: Manifest
) -> None:
    """Parts are copied byte by byte; those that can't be, are read and written again."""
    commit_all(ledger, manifest, failed={"4"})
    for plan in manifest.shards:
        key = ledger.read_commit(plan.number).parts[0].key
        ledger.store.put(key, ledger.store.get(key).replace(b'{"seq":', b'{ "seq": '))
    merge(ledger, manifest)
    assert [row["question_id"] for row in lines(ledger.store, layout.OUTPUTS)] == [0, 1, 3, 5]


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
    ledger.store.put(layout.rejected(manifest.rejected_sha256), b"")
    with pytest.raises(LedgerCorrupt, match=r"inputs/rejected-.* was overwritten"):
        merge(ledger, manifest)


def test_the_files_of_another_shard_are_not_taken_for_this_one(
    ledger: Ledger, manifest: Manifest
) -> None:
    commit_all(ledger, manifest)
    ledger.store.put(layout.commit(0), ledger.store.get(layout.commit(1)))
    with pytest.raises(LedgerCorrupt, match=r"shards/00000/commit\.json: no answer for 2 rows"):
        merge(ledger, manifest)
