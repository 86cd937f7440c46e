"""`neva run`: the whole job on this machine, with the same controller and worker as on a cluster.

Every step looks at the ledger first, so that a run that was killed goes on where it was, and a
finished one is left alone.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.markup import escape

from controller.local.broker import EmbeddedBroker
from controller.local.progress import LiveProgress
from controller.local.worker_process import LocalWorker
from controller.merge import merge
from controller.reconciler import Reconciler
from controller.start import check_same_run, start_run
from controller.summary import (
    SUCCEEDED,
    add_judge,
    is_finished,
    read_summary,
    summarize,
    write_summary,
)
from neva import queue
from neva.errors import NevaError
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger, Manifest, layout
from neva.reasons import Reason
from neva.settings import settings
from neva.store import StoreUnavailable, open_store

EXIT_OK, EXIT_ERROR, EXIT_INVALID, EXIT_ROWS_FAILED = 0, 1, 2, 3

_MAX_ERRORS_SHOWN = 100


class Runner:
    """One local run of one job file."""

    def __init__(self, job_file: Path, console: Console) -> None:
        self._job_file = job_file
        self._job = load_job(job_file)
        self._console = console
        self._ledger = Ledger(open_store(self._job.spec.output.uri))
        self._stages_s: dict[str, float] = {}

    def run(self) -> int:
        """Run the job to its end; returns the exit code.

        Raises:
            ConfigError: bad input. NevaError: something that can't be had.
        """
        store = self._ledger.store
        manifest = self._ledger.read_manifest()
        if manifest is None:
            with self._stage("validate"):
                manifest = self._start()
            if manifest is None:
                return EXIT_ROWS_FAILED
        else:
            check_same_run(self._job, self._ledger, manifest)
            if is_finished(store):
                self._console.print(f"{escape(store.base_uri)} is finished; nothing was changed.")
                return self._tell_result()
        with self._stage("answer"):
            self._answer(manifest)
        with self._stage("merge"):
            merged = merge(self._ledger, manifest)
        summary = summarize(self._job, manifest, merged, self._stages_s)
        succeeded = summary["state"] == SUCCEEDED
        if self._job.spec.judge is not None and succeeded:
            with self._stage("judge"):
                self._call("judge", "--job", str(self._job_file))
            add_judge(summary, store)
        summary["stages_s"] = {name: round(took_s, 1) for name, took_s in self._stages_s.items()}
        write_summary(store, summary)
        with self._stage("report"):
            self._call("report", store.base_uri, quiet=True)
        if succeeded:
            store.put(layout.SUCCESS, b"")
        return self._tell_result()

    def _start(self) -> Manifest | None:
        """The run's manifest; None when too many rows are bad, which is then said."""
        started = start_run(self._job, self._ledger, self._tell_rejected)
        if isinstance(started, Manifest):
            return started
        self._console.print(
            f"[red]{started.num_rejected} of {started.num_rows} rows are bad[/], more than "
            f"failure.failOnError ({self._job.spec.failure.fail_on_error}) lets pass. Nothing was "
            f"started. All errors: {escape(self._ledger.store.uri_of(layout.ERRORS))}"
        )
        return None

    def _tell_rejected(self, num_rejected: int, errors: Iterator[dict[str, Any]]) -> None:
        source = self._job.spec.input.prompts
        for error in islice(errors, _MAX_ERRORS_SHOWN):
            where = f"{source}:{error['line']}: {error['reason']}"
            self._console.print(f"{where}: {error['message']}", markup=False)
        if num_rejected > _MAX_ERRORS_SHOWN:
            left = num_rejected - _MAX_ERRORS_SHOWN
            self._console.print(f"… and {left} more, all of them in {layout.ERRORS}")

    # Answering

    def _answer(self, manifest: Manifest) -> None:
        if len(self._ledger.committed_shards()) == len(manifest.shards):
            return
        log_path = settings().cache_dir / "runs" / manifest.run_id / "worker.log"
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            broker = None
            redis_url = settings().redis_url
            if redis_url is None:
                broker = stack.enter_context(EmbeddedBroker())
                redis_url = broker.url
            client = stack.enter_context(redis.Redis.from_url(redis_url))
            reconciler = Reconciler(
                manifest,
                self._ledger,
                client,
                stack.enter_context(queue.make_app(redis_url, manifest.run_id)),
                Leases(client, manifest.run_id, settings().lease_ttl_s),
                grace_s=settings().lease_ttl_s,
            )
            worker = LocalWorker(self._ledger.store.base_uri, redis_url, log_path)
            stack.callback(worker.stop)
            live = stack.enter_context(LiveProgress(self._console))
            num_done = 0
            while True:
                if broker is not None:
                    broker.keep()
                worker.keep(num_done)
                try:
                    progress = reconciler.step()
                except (redis.RedisError, OperationalError, StoreUnavailable) as error:
                    # The ledger has everything: look again.
                    live.say(f"trying again: {error}")
                else:
                    num_done = progress.num_done
                    live.show(progress)
                    if progress.finished:
                        return
                time.sleep(settings().reconcile_interval_s)

    # The end

    def _call(self, *arguments: str, quiet: bool = False) -> None:
        """Run another role's command in a process of its own, as a cluster does."""
        command = [sys.executable, "-m", "controller", *arguments]
        done = subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None, check=False)
        if done.returncode != 0:
            raise NevaError(
                f"`neva {arguments[0]}` failed (exit code {done.returncode}); the answers are "
                "complete, and the same command goes on from here"
            )

    def _tell_result(self) -> int:
        store = self._ledger.store
        summary = read_summary(store)
        if summary is None:
            raise NevaError(f"{store.uri_of(layout.SUMMARY)} is gone", reason=Reason.LEDGER_CORRUPT)
        by_reason = ", ".join(f"{n} {reason}" for reason, n in summary["failed_by_reason"].items())
        state = "[green]Succeeded[/]" if summary["state"] == SUCCEEDED else "[red]Failed[/]"
        self._console.print(
            f"{state}: {summary['answered']} of {summary['rows']} rows answered, "
            f"{summary['failed']} failed{f' ({by_reason})' if by_reason else ''}",
        )
        for name in (layout.OUTPUTS, layout.ERRORS, layout.REPORT):
            self._console.print(f"  {store.uri_of(name)}", markup=False)
        return EXIT_OK if summary["state"] == SUCCEEDED else EXIT_ROWS_FAILED

    @contextlib.contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self._stages_s[name] = time.monotonic() - started_s
