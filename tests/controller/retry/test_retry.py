"""A retry's rows, its place, and the joined outputs; on real stores, with made-up answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner

from controller.finish import Stages, finish_run
from controller.retry.cli import retry_app
from controller.retry.plan import begin, next_retry
from controller.start import Refused, start_run
from neva.errors import ConfigError
from neva.job_file import load_job, parse_job
from neva.ledger import (
    Ledger,
    LedgerCorrupt,
    ShardRow,
    layout,
)
from neva.ledger.control import Control, Order
from neva.store import open_store
from tests.controller.work import Answers, Work
from tests.support.jobs import DEMO_MODEL


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    # The report is a process of its own, and not what is tested here.
    monkeypatch.setattr("controller.finish._write_report", lambda uri: None)
    return Work(tmp_path)


def failing(*ids: object) -> Answers:
    return lambda row: None if row.record["question_id"] in ids else f"to {row.line}"


def outputs(ledger: Ledger) -> list[tuple[object, str]]:
    lines = map(orjson.loads, ledger.store.get(layout.OUTPUTS).splitlines())
    return [(line["question_id"], line["response"]) for line in lines]


def errors(ledger: Ledger) -> list[tuple[int, str]]:
    lines = map(orjson.loads, ledger.store.get(layout.ERRORS).splitlines())
    return [(line["line"], line["reason"]) for line in lines]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "retries" not in path.parts
    }


def test_failed_rows_alone_are_asked_and_joined_with_the_kept_answers_in_order(work: Work) -> None:
    base = work.run(load_job(work.folder / "job.yaml"), failing(2, 7, 8))
    assert errors(base) == [
        (3, "MediaUnreadable"),
        (5, "InvalidJson"),
        (7, "MediaNotFound"),
        (11, "MediaUnreadable"),
        (12, "MediaUnreadable"),
    ]
    before = snapshot(work.folder / "out")
    (work.folder / "videos" / "9.mp4").touch()
    asked: list[object] = []

    def answer(row: ShardRow) -> str | None:
        asked.append(row.record["question_id"])
        return failing(7)(row)

    first = work.retry(answer)
    assert sorted(map(str, asked)) == ["2", "7", "8", "late"]
    assert [row[0] for row in outputs(first)] == [0, 1, 2, 3, "late", 4, 5, 6, 8]
    assert dict(outputs(first)) == {**dict(outputs(base)), 2: "to 3", 8: "to 12", "late": "to 7"}
    assert errors(first) == [(5, "InvalidJson"), (11, "MediaUnreadable")]
    assert snapshot(work.folder / "out") == before, "a finished run never changes"
    summary = orjson.loads(first.store.get(layout.SUMMARY))
    assert (summary["rows"], summary["answered"], summary["failed"]) == (11, 9, 2)

    second = work.retry(failing())
    assert second.store.base_uri.endswith("/out/retries/2/")
    assert [row[0] for row in outputs(second)] == [0, 1, 2, 3, "late", 4, 5, 6, 7, 8]
    assert errors(second) == [(5, "InvalidJson")], "what a line says does not change"
    third = work.retry(failing())
    assert outputs(third) == outputs(second)


def test_the_end_of_a_retry_can_be_repeated(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2))
    ledger = work.retry(failing())
    once = {key: ledger.store.get(key) for key in (layout.OUTPUTS, layout.ERRORS)}
    job = next_retry(work.out).job
    manifest = ledger.read_manifest()
    assert manifest is not None
    retried = parse_job(manifest.job, "manifest")
    finish_run(retried, work.folder / "running.json", ledger, manifest, Stages())
    assert {key: ledger.store.get(key) for key in once} == once
    assert job.spec.retry_of == ledger.store.base_uri, "the next one starts from it"


def test_a_retry_that_was_begun_goes_on_and_two_at_once_are_one(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2))
    ours, theirs = next_retry(work.out), next_retry(work.out)
    assert not ours.begun
    assert begin(work.out, ours) == begin(work.out, theirs)
    again = next_retry(work.out)
    assert (again.number, again.begun) == (1, True)
    Control(open_store(again.job.spec.output.uri)).give(Order.CANCEL)
    assert next_retry(work.out).number == 2, "a cancelled one is over"


def test_a_retry_of_a_retry_is_the_next_of_the_first_run(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2, 3))
    first = work.retry(failing(3))
    found = next_retry(first.store.base_uri)
    assert (found.number, found.num_failed) == (2, 3)
    assert found.job.spec.output.uri.endswith("/out/retries/2/")
    assert found.job.metadata.name == "kitchen-retry-2"


def test_replies_of_the_judge_and_frames_come_along(work: Work) -> None:
    base = work.run(load_job(work.folder / "job.yaml"), failing(2))
    base.store.put("judge/parts/0001.jsonl", b"reply\n")
    base.store.put("frames/a.jpg", b"picture")
    ledger = work.retry(failing())
    assert ledger.store.get("judge/parts/0001.jsonl") == b"reply\n"
    assert ledger.store.get("frames/a.jpg") == b"picture"


def test_only_finished_runs_with_failed_rows_are_retried(work: Work) -> None:
    with pytest.raises(ConfigError, match="no run there"):
        next_retry(work.out)
    job = load_job(work.folder / "job.yaml")
    ledger = Ledger(open_store(job.spec.output.uri))
    start_run(job, ledger, lambda number, errors: None)
    with pytest.raises(ConfigError, match="is not finished"):
        next_retry(work.out)


def test_a_run_without_failed_rows_has_nothing_to_retry(work: Work) -> None:
    lines = (work.folder / "prompts.jsonl").read_text().splitlines()
    (work.folder / "prompts.jsonl").write_text("\n".join(lines[:4]) + "\n")
    job = load_job(work.folder / "job.yaml")
    work.run(job, failing())
    assert next_retry(work.out).num_failed == 0
    done = CliRunner().invoke(retry_app, [work.out])
    assert done.exit_code == 0
    retried = job.model_copy(update={"spec": job.spec.model_copy(update={"retry_of": work.out})})
    with pytest.raises(ConfigError, match="no row failed"):
        start_run(retried, Ledger(open_store(f"{work.out}/r/")), lambda number, errors: None)


def test_other_settings_may_change_but_not_what_answers_depend_on(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2, 3, 4))
    changed = work.write_job({"failOnError": 1, "maxAttempts": 7})
    found = next_retry(work.out, changed)
    assert found.job.spec.failure.max_attempts == 7
    ledger = Ledger(open_store(found.job.spec.output.uri))
    assert not isinstance(start_run(found.job, ledger, lambda *_: None), Refused)

    other = next_retry(work.out, work.write_job({}, seed=5)).job
    with pytest.raises(ConfigError, match="another model, input or inference"):
        start_run(other, Ledger(open_store(f"{work.out}/other/")), lambda *_: None)


def test_a_changed_model_is_refused(work: Work, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(DEMO_MODEL, model)
    job = load_job(work.folder / "job.yaml")
    spec = job.spec.model_copy(
        update={"model": job.spec.model.model_copy(update={"uri": str(model)})}
    )
    work.run(job.model_copy(update={"spec": spec}), failing(2))
    with (model / "config.json").open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match="was changed since"):
        work.retry(failing())


def test_changed_prompts_are_refused_as_in_any_run(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2))
    with (work.folder / "prompts.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match=r"prompts\.jsonl was changed since"):
        work.retry(failing())


def test_outputs_changed_behind_the_retrys_back_are_found(work: Work) -> None:
    base = work.run(load_job(work.folder / "job.yaml"), failing(2))
    job = begin(work.out, next_retry(work.out))
    start_run(job, Ledger(open_store(job.spec.output.uri)), lambda *_: None)
    kept = base.store.get(layout.OUTPUTS)
    base.store.put(layout.OUTPUTS, kept.replace(b"to 2", b"to 9"))
    with pytest.raises(LedgerCorrupt, match=r"outputs\.jsonl was changed"):
        work.run(job, failing())


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        (layout.SUMMARY, b'{"state": "Succeeded"}', "summary.json: rows: "),
        (layout.SUMMARY, b"{}", "summary.json: state: "),
        (layout.MANIFEST, b"{}", "manifest.json: no Manifest: "),
        (layout.MANIFEST, None, "manifest.json: its job has no name, or no spec"),
    ],
)
def test_a_run_whose_files_have_another_shape_is_refused_in_one_line(
    work: Work, key: str, content: bytes | None, words: str
) -> None:
    base = work.run(load_job(work.folder / "job.yaml"), failing(2))
    manifest = orjson.loads(base.store.get(layout.MANIFEST))
    base.store.put(key, content or orjson.dumps({**manifest, "job": {}}))
    done = CliRunner().invoke(retry_app, [work.out])
    assert done.exit_code == 1
    [line] = done.output.splitlines()
    assert line.startswith(f"error (LedgerCorrupt): {words}")


def test_the_job_of_a_retry_can_be_printed_for_a_cluster(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), failing(2))
    done = CliRunner().invoke(retry_app, [work.out, "--dry-run", "-o", "yaml"])
    job = yaml.safe_load(done.output)
    assert job["metadata"] == {"name": "kitchen-retry-1"}
    assert job["spec"]["retryOf"].endswith("/out/")
    assert job["spec"]["output"]["uri"].endswith("/out/retries/1/")
    assert parse_job(job, "printed") == next_retry(work.out).job
    assert open_store(work.out).head(layout.retry_job(1)) is None, "nothing was written"
