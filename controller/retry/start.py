"""Splits a retry: the base's failed rows into shards of its own, and its manifest.

The rows come out of the base's ledger, not out of the prompts file: they are asked as they were.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from controller.lines import put_rejected
from controller.media_lookup import media_problem
from controller.retry.base import BaseRun
from controller.shard_plan import plan_shards
from neva.errors import ConfigError, RowError
from neva.job_file import answer_digest
from neva.ledger import FinishedRow, Ledger, Manifest, ShardPlan, ShardRow, error_line
from neva.media_store import MediaStore, media_names, open_media
from neva.model_files import find_model
from neva.prompts import RESERVED_KEYS_OF_FORMAT, BadRow, PromptRow, read_prompts
from neva.reasons import Reason
from neva.settings import settings
from neva.spec import JobSpec, VideoNevaJob

_ROWS_AT_ONCE = 4096  # held in memory


def start_retry(job: VideoNevaJob, ledger: Ledger) -> Manifest:
    """Fix the run of a job with `retryOf`. Returns the manifest that holds.

    Raises:
        ConfigError: there is no finished run to retry, nothing failed in it, or answers of this
            job can't stand beside its answers.
    """
    spec = job.spec
    base = BaseRun.open(spec.retry_of or "")
    _require_same_answers(spec, base)
    if base.num_failed == 0:
        raise ConfigError(f"{base.ledger.store.base_uri}: no row failed, nothing is to be retried")
    calibration = base.ledger.read_calibration()
    if calibration is not None:
        ledger.fix_calibration(calibration)
    split = _Split(spec, ledger, open_media(spec))
    split.rejected = [row.to_json() for row in base.refused()]
    rows = base.failed()
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        split.take(some)
    split.rejected.sort(key=lambda line: int(orjson.loads(line)["seq"]))
    outputs_sha256 = base.outputs_sha256()
    identity = "\n".join((ledger.store.base_uri, base.manifest.run_id, outputs_sha256))
    return ledger.write_manifest(
        Manifest(
            run_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            job=job.model_dump(mode="json", by_alias=True),
            answer_digest=base.manifest.answer_digest,
            model_digest=base.manifest.model_digest,
            prompts_sha256=base.manifest.prompts_sha256,
            num_rows=base.num_failed,
            num_rejected=len(split.rejected),
            rejected_sha256=put_rejected(ledger.store, lambda: split.rejected),
            shards=split.plans,
            num_kept=base.num_answered,
            kept_sha256=outputs_sha256,
        )
    )


def _require_same_answers(spec: JobSpec, base: BaseRun) -> None:
    where = base.ledger.store.base_uri
    if answer_digest(spec) != base.manifest.answer_digest:
        other = "another model, input or inference block"
    elif find_model(spec.model).digest != base.manifest.model_digest:
        other = f"another model: {spec.model.uri} was changed since"
    else:
        return
    raise ConfigError(
        f"{where} has answers of {other}: a retry may change workers, failure and judge alone",
        reason=Reason.OUTPUT_IN_USE,
    )


@dataclass(slots=True)
class _Split:
    """The shards made so far, and the rows that are refused again."""

    spec: JobSpec
    ledger: Ledger
    media: MediaStore
    plans: list[ShardPlan] = field(default_factory=list)
    rejected: list[bytes] = field(default_factory=list)

    def take(self, rows: list[FinishedRow]) -> None:
        good = [row for row in map(self._asked, rows) if row is not None]
        names = list(dict.fromkeys(row.media_name for row in good))
        with ThreadPoolExecutor(settings().media_lookups, thread_name_prefix="media") as pool:
            found = pool.map(lambda name: media_problem(self.media, name), names)
            problems = {name: error for name, error in zip(names, found, strict=True) if error}
        order = {name: n for n, name in enumerate(names)}
        usable = []
        for row in good:
            if (error := problems.get(row.media_name)) is not None:
                self._reject(row.seq, row.line, row.record, error)
            else:
                usable.append(row)
        usable.sort(key=lambda row: (order[row.media_name], row.seq))
        for shard in plan_shards(usable, self.spec.shards.max_rows):
            self.plans.append(self.ledger.write_shard(len(self.plans), shard))

    def _asked(self, row: FinishedRow) -> ShardRow | None:
        """The row as it was asked; None when it is refused now."""
        error: dict[str, Any] = row.error or {}
        record = error.get("record")
        line = int(error["line"])
        (checked,) = self._check(record)
        if isinstance(checked, BadRow):
            self._reject(row.seq, line, record, RowError(checked.message, reason=checked.reason))
            return None
        return ShardRow(
            row.seq, line, checked.row_id, checked.question, checked.media_name, checked.record
        )

    def _check(self, record: dict[str, Any] | None) -> Iterator[PromptRow | BadRow]:
        return read_prompts(
            io.BytesIO(orjson.dumps(record)),
            self.spec.media_type,
            self.spec.inference.insert_media_token,
            reserved_keys=RESERVED_KEYS_OF_FORMAT[self.spec.model.compat.output_format],
            media_name=media_names(self.spec),
        )

    def _reject(self, seq: int, line: int, record: dict[str, Any] | None, error: RowError) -> None:
        words = error_line(line, record, error.reason, error.message)
        row = FinishedRow(seq, str(words["question_id"] or ""), None, words)
        self.rejected.append(row.to_json())
