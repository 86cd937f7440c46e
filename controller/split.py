"""Split: validated rows → shards → the manifest, which is written last and once.

Shard inputs written before a crash are overwritten by the next split with the same bytes; nothing
reads them until a manifest names their digests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import orjson

from controller.intake import REJECTED, Intake
from controller.merge import put_lines
from controller.shard_plan import plan_shards
from controller.spool import Spool
from neva.job_file import answer_digest
from neva.ledger import FinishedRow, Ledger, Manifest, layout
from neva.spec import VideoNevaJob


def split(
    job: VideoNevaJob, ledger: Ledger, spool: Spool, intake: Intake, model_digest: str
) -> Manifest:
    """Write the run's shards and manifest. Returns the manifest that holds."""
    plans = [
        ledger.write_shard(number, rows)
        for number, rows in enumerate(plan_shards(spool.rows_by_media(), job.spec.shards.max_rows))
    ]
    rejected_sha256 = put_lines(ledger.store, layout.REJECTED, _rejected_rows(spool))
    answers = answer_digest(job.spec)
    identity = "\n".join((ledger.store.base_uri, answers, model_digest, intake.prompts_sha256))
    return ledger.write_manifest(
        Manifest(
            run_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            job=job.model_dump(mode="json", by_alias=True),
            answer_digest=answers,
            model_digest=model_digest,
            prompts_sha256=intake.prompts_sha256,
            num_rows=intake.num_rows,
            num_rejected=intake.num_rejected,
            rejected_sha256=rejected_sha256,
            shards=plans,
        )
    )


def _rejected_rows(spool: Spool) -> Iterator[bytes]:
    """Refused rows in the form of finished ones, so that the merge treats all alike."""
    for seq, data in spool.lines(REJECTED):
        error = orjson.loads(data)
        yield FinishedRow(seq, str(error["question_id"] or ""), None, error).to_json()
