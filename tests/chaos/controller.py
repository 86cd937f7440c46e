"""`python -m tests.chaos.controller`: prepare, watch and finish the job in NEVA_JOB, at one go.

On a cluster these are two pods and the operator between them; they meet in the ledger alone, so one
process that may die at any moment and is started again is as hard on it. Exit codes: those of
`neva finish`, and 1 for "start me again".
"""

from __future__ import annotations

import faulthandler
import sys
import time

import redis
from kombu.exceptions import OperationalError

from controller.exits import EXIT_OK
from controller.pods import finish_job, prepare_job
from controller.reconciler import Reconciler
from neva import queue
from neva.errors import NevaError
from neva.lease import Leases
from neva.ledger import Ledger
from neva.logs import configure_logging
from neva.pod import job_of_environment
from neva.settings import settings
from neva.spec import VideoNevaJob
from neva.store import open_store


def watch(job: VideoNevaJob) -> None:
    """Reconcile until every shard is committed. Raises store errors."""
    ledger = Ledger(open_store(job.spec.output.uri))
    manifest = ledger.read_manifest()
    assert manifest is not None, "it was prepared"
    redis_url = settings().redis_url
    assert redis_url is not None
    lease_ttl_s = settings().lease_ttl_s
    with (
        queue.connect(redis_url) as client,
        queue.make_app(redis_url, manifest.run_id) as app,
    ):
        leases = Leases(client, manifest.run_id, lease_ttl_s)
        reconciler = Reconciler(manifest, ledger, client, app, leases, grace_s=lease_ttl_s)
        while True:
            try:
                if reconciler.step().finished:
                    return
            except (redis.RedisError, OperationalError, NevaError) as error:
                print(f"looking again: {error}", file=sys.stderr, flush=True)
            time.sleep(settings().reconcile_interval_s)


def main() -> int:
    faulthandler.enable()
    configure_logging()
    job = job_of_environment()
    try:
        code = prepare_job(job)
        if code != EXIT_OK:
            return code
        watch(job)
        return finish_job(job)
    except NevaError as error:
        print(f"{error.reason}: {error.message}", file=sys.stderr, flush=True)
        return 1


if __name__ == "__main__":
    sys.exit(main())
