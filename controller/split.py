"""Split: validated rows → shards → the manifest, which is written last and once.

Shard inputs written before a crash are overwritten by the next split with the same bytes; nothing
reads them until a manifest names their digests.
"""

from __future__ import annotations

import hashlib

from controller.intake import REJECTED, Intake
from controller.shard_plan import plan_shards
from controller.spool import Spool
from neva.job_file import answer_digest
from neva.ledger import Ledger, Manifest, layout
from neva.spec import VideoNevaJob


def split(
    job: VideoNevaJob, ledger: Ledger, spool: Spool, intake: Intake, model_digest: str
) -> Manifest:
    """Write the run's shards and manifest. Returns the manifest that holds."""
    plans = [
        ledger.write_shard(number, rows)
        for number, rows in enumerate(plan_shards(spool.rows_by_media(), job.spec.shards.max_rows))
    ]
    rejected = b"".join(spool.lines(REJECTED))
    ledger.store.put(layout.REJECTED, rejected)
    answers = answer_digest(job.spec)
    identity = "\n".join((ledger.store.base_uri, answers, model_digest, intake.prompts_sha256))
    return ledger.write_manifest(
        Manifest(
            run_id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            job=job.model_dump(mode="json", by_alias=True, exclude_none=True),
            answer_digest=answers,
            model_digest=model_digest,
            prompts_sha256=intake.prompts_sha256,
            num_rows=intake.num_rows,
            num_rejected=intake.num_rejected,
            rejected_sha256=hashlib.sha256(rejected).hexdigest(),
            shards=plans,
        )
    )
