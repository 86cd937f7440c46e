"""Whole jobs without workers: made-up answers to rows whose media are never decoded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import yaml

from controller.finish import Stages, finish_run
from controller.retry.plan import begin, next_retry
from controller.start import start_run
from neva.job_file import load_job
from neva.ledger import Claim, FinishedRow, Ledger, Manifest, ShardRow, error_line
from neva.spec import VideoNevaJob
from neva.store import open_store
from tests.support.jobs import DEMO_MODEL

Answers = Callable[[ShardRow], str | None]


class Work:
    """A job over empty files that are never decoded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "videos").mkdir()
        rows: list[dict[str, Any]] = [
            {"question_id": n, "video": f"{n % 3}.mp4", "text": "Which shape?"} for n in range(9)
        ]
        lines = [json.dumps(row) for row in rows]
        lines[4:4] = ["{bad", "", json.dumps({**rows[0], "question_id": "late", "video": "9.mp4"})]
        (folder / "prompts.jsonl").write_text("\n".join(lines) + "\n")
        for name in "012":
            (folder / "videos" / f"{name}.mp4").touch()
        self.write_job({"failOnError": 0.9})

    def write_job(self, failure: dict[str, Any], **inference: Any) -> VideoNevaJob:
        spec = {
            "model": {"uri": str(DEMO_MODEL), "precision": "fp32"},
            "input": {"prompts": "prompts.jsonl", "mediaBasePath": "videos/"},
            "inference": {"greedy": True, "tokens_to_generate": 8, **inference},
            "output": {"uri": "out/"},
            "shards": {"maxRows": 2},
            "failure": failure,
        }
        job = {"apiVersion": "neva-batch.dev/v1alpha1", "kind": "VideoNevaJob", "spec": spec}
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump({**job, "metadata": {"name": "kitchen"}}))
        return load_job(path)

    @property
    def out(self) -> str:
        return str(self.folder / "out")

    def run(self, job: VideoNevaJob, answers: Answers) -> Ledger:
        """Run a job to its end; `answers` gives the response to a row, or None: it fails."""
        ledger = Ledger(open_store(job.spec.output.uri))
        manifest = start_run(job, ledger, lambda number, errors: None)
        assert isinstance(manifest, Manifest), manifest
        self.answer(ledger, manifest, answers)
        self.finish(job, ledger, manifest)
        return ledger

    def answer(self, ledger: Ledger, manifest: Manifest, answers: Answers) -> None:
        """Commit every shard."""
        for plan in manifest.shards:
            rows = ledger.read_shard(plan)
            finished = [self._finished(row, answers(row)) for row in rows]
            ledger.claim(plan.number, Claim(1, "w", "c", [row.row_id for row in rows]))
            part = ledger.write_part(plan.number, 1, 1, finished)
            ledger.commit(plan.number, 1, [part], finished)

    def finish(self, job: VideoNevaJob, ledger: Ledger, manifest: Manifest) -> None:
        path = self.folder / "running.json"
        path.write_bytes(orjson.dumps(job.model_dump(mode="json", by_alias=True)))
        finish_run(job, path, ledger, manifest, Stages())

    @staticmethod
    def _finished(row: ShardRow, response: str | None) -> FinishedRow:
        if response is None:
            error = error_line(row.line, row.record, "MediaUnreadable", "it failed")
            return FinishedRow(row.seq, row.row_id, None, error)
        return FinishedRow(row.seq, row.row_id, {**row.record, "response": response}, None)

    def retry(self, answers: Answers) -> Ledger:
        return self.run(begin(self.out, next_retry(self.out)), answers)
