"""`neva run`: the whole job on this machine, with the same controller and worker as on a cluster.

Every step looks at the ledger first, so that a run that was killed goes on where it was, and a
finished one is left alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import redis
from kombu.exceptions import OperationalError
from rich.console import Console
from rich.markup import escape

from controller.exits import EXIT_OK, EXIT_ROWS_FAILED
from controller.finish import Stages, finish_run
from controller.local.broker import EmbeddedBroker
from controller.local.logs import log_file
from controller.local.presence import Presence, Rival, TakenOver, take_turn
from controller.local.progress import LiveProgress
from controller.local.worker_process import LocalWorker
from controller.partial import export_partial
from controller.reconciler import Reconciler
from controller.start import check_same_run, start_run
from controller.summary import SUCCEEDED, is_finished, read_summary
from neva import process, queue
from neva.errors import ConfigError, NevaError
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger, Manifest, layout
from neva.ledger.control import Order, Stopped
from neva.process import private_temporary_files
from neva.quantization import require_modelopt
from neva.reasons import Reason
from neva.settings import settings
from neva.store import StoreUnavailable, open_store
from neva.timings import timings_words
from neva.trouble import Trouble, clear_trouble

_MAX_ERRORS_SHOWN = 100
_WATCH_INTERVAL_S = 1.0


Watcher = Callable[[Ledger, Manifest], None]
"""Is called again and again while rows are answered; may raise StoreUnavailable."""


class Runner:
    """One local run of one job file."""

    def __init__(self, job_file: Path, console: Console, watcher: Watcher | None = None) -> None:
        self._job_file = job_file
        self._job = load_job(job_file)
        self._console = console
        self._watcher = watcher
        self._ledger = Ledger(open_store(self._job.spec.output.uri))
        self._stages = Stages()
        self._said_of_rival = 0

    def run(self) -> int:
        """Run the job to its end; returns the exit code.

        Raises:
            ConfigError: bad input. NevaError: something that can't be had.
            Stopped: the run is suspended or cancelled; the worker has drained.
        """
        self._tell_what_is_for_a_cluster()
        while True:
            if self._is_finished():
                where = escape(self._ledger.store.base_uri)
                self._console.print(f"{where} is finished; nothing was changed.")
                return self._tell_result()
            turn = take_turn(self._ledger.store, self._watch)
            if turn is None:
                return self._tell_result()
            with turn, private_temporary_files("neva-run"):
                try:
                    return self._run(turn)
                except TakenOver as taken:
                    self._console.print(taken.message, markup=False)
                except Stopped as stopped:
                    self._keep_what_is_done(stopped)
                    raise

    def _keep_what_is_done(self, stopped: Stopped) -> None:
        """The worker has drained: what it finished becomes readable if the run is over."""
        manifest = self._ledger.read_manifest()
        if stopped.order is Order.CANCEL and manifest is not None:
            export_partial(self._ledger, manifest)

    def _is_finished(self) -> bool:
        manifest = self._ledger.read_manifest()
        if manifest is None:
            return False
        check_same_run(self._job, self._ledger, manifest)
        return is_finished(self._ledger.store, self._job)

    def _watch(self, rival: Rival) -> bool:
        """Wait while another `neva run` is at work. True when it has finished the run."""
        if rival.number != self._said_of_rival:
            self._said_of_rival = rival.number
            self._console.print(
                f"{rival.record.words} runs this job, or did a moment ago; waiting for its end, "
                "and going on in its place should it stop",
                markup=False,
            )
        time.sleep(_WATCH_INTERVAL_S)
        return self._is_finished()

    def _run(self, turn: Presence) -> int:
        manifest = self._ledger.read_manifest()
        if manifest is None:
            with self._stages.measure("validate"):
                manifest = self._start()
            if manifest is None:
                return EXIT_ROWS_FAILED
        with self._stages.measure("answer"):
            self._answer(manifest, turn)
        # Of workers that were killed and had none after them, who would have done that.
        for base in (settings().scratch_dir, process.SHARED_MEMORY):
            process.remove_orphans(base, process.WORKER_FOLDER)
        turn.check()
        finish_run(self._job, self._job_file, self._ledger, manifest, self._stages)
        return self._tell_result()

    def _tell_what_is_for_a_cluster(self) -> None:
        spec = self._job.spec
        if spec.suspend:
            raise ConfigError("spec.suspend is true: the job is not to run")
        if ignored := spec.cluster_fields():
            keys = ", ".join(ignored)
            self._console.print(f"{keys}: for a cluster; this machine runs one worker")

    def _start(self) -> Manifest | None:
        """The run's manifest; None when too many rows are bad, which is then said."""
        require_modelopt(self._job.spec.model.quantization)  # the worker runs where we do
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

    def _answer(self, manifest: Manifest, turn: Presence) -> None:
        if len(self._ledger.committed_shards()) == len(manifest.shards):
            return
        log_path = log_file(manifest.run_id)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            broker = None
            redis_url = settings().redis_url
            if redis_url is None:
                broker = stack.enter_context(EmbeddedBroker())
                redis_url = broker.url
            client = stack.enter_context(queue.connect(redis_url))
            reconciler = Reconciler(
                manifest,
                self._ledger,
                client,
                stack.enter_context(queue.make_app(redis_url, manifest.run_id)),
                Leases(client, manifest.run_id, settings().lease_ttl_s),
                grace_s=settings().lease_ttl_s,
            )
            try:
                clear_trouble(client, manifest.run_id)
            except redis.RedisError as error:
                raise NevaError(
                    f"the broker (NEVA_REDIS_URL) can't be had: {error}; `neva doctor` looks at it",
                    reason=Reason.BROKER_UNAVAILABLE,
                ) from error
            worker = LocalWorker(
                self._ledger.store.base_uri, redis_url, self._worker_arguments(), log_path
            )
            stack.callback(worker.stop)
            live = stack.enter_context(LiveProgress(self._console))
            num_done = 0
            while True:
                turn.check()
                if broker is not None:
                    broker.keep()
                worker.keep(num_done)
                try:
                    progress = reconciler.step()
                    if self._watcher is not None:
                        self._watcher(self._ledger, manifest)
                except (redis.RedisError, OperationalError, StoreUnavailable) as error:
                    # The ledger has everything: look again.
                    live.say(f"trying again: {error}")
                else:
                    num_done = progress.num_done
                    live.show(progress)
                    if progress.finished:
                        return
                    self._heed(progress.trouble, live, log_path)
                time.sleep(settings().reconcile_interval_s)

    def _worker_arguments(self) -> list[str]:
        """What this job may say otherwise than the manifest, as answers don't depend on it."""
        spec = self._job.spec
        arguments = ["--tensor-parallel-size", str(spec.model.tensor_parallel_size)]
        arguments += ["--pipeline-parallel-size", str(spec.model.pipeline_parallel_size)]
        arguments += ["--max-attempts", str(spec.failure.max_attempts)]
        return [*arguments, "--cpu"] if spec.workers.gpus_per_worker == 0 else arguments

    def _heed(self, trouble: Trouble | None, live: LiveProgress, log_path: Path) -> None:
        """Say what keeps the worker from working; stop when waiting will not help."""
        if trouble is None:
            return
        if trouble.retryable:
            live.say(f"trying again: {trouble.message}")
            return
        raise NevaError(
            f"{trouble.message} (the worker's log: {log_path})", reason=Reason(trouble.reason)
        )

    # The end

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
        if words := timings_words(summary.get("workers_s", {})):
            self._console.print(words, markup=False)
        for name in (layout.OUTPUTS, layout.ERRORS, layout.REPORT):
            self._console.print(f"  {store.uri_of(name)}", markup=False)
        return EXIT_OK if summary["state"] == SUCCEEDED else EXIT_ROWS_FAILED
