"""The runs in ledger and queue, as the operator looks at them: one `Reconciler` per job at work.

Holds no truth: a new operator reads everything again. The manifest is not kept.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from controller.operator.seen import RunSeen
from controller.reconciler import Progress, Reconciler
from controller.summary import read_scores, read_summary
from neva import queue
from neva.conditions import ConditionReason
from neva.errors import NevaError
from neva.lease import Leases
from neva.ledger import Ledger
from neva.ledger.control import Control
from neva.rate import RateWindow
from neva.store import Store, open_store
from neva.trouble import clear_trouble

_GRACE_S = 6.0  # a worker's lease


class Runs(Protocol):
    """What the operator asks of runs; the fake of the tests answers at once."""

    def look(self, uid: str, output_uri: str, *, listing: bool) -> RunSeen: ...

    def start_round(self, run_id: str) -> None: ...

    def purge(self, run_id: str) -> None: ...

    def forget(self, uid: str) -> None: ...


@dataclasses.dataclass(slots=True)
class _Run:
    ledger: Ledger
    run_id: str
    control: Control
    reconciler: Reconciler
    app: Celery
    rate: RateWindow
    num_done: int = 0


class LedgerRuns:
    """Runs in real stores and a real broker. Methods may be called from several threads, but for
    one job from one at a time.
    """

    def __init__(
        self,
        redis_url: str,
        *,
        grace_s: float = _GRACE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis_url = redis_url
        self._client = queue.connect(redis_url)
        self._grace_s = grace_s
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, _Run] = {}

    def look(self, uid: str, output_uri: str, *, listing: bool) -> RunSeen:
        """Look at the run, and enqueue what is missing. Never raises for what may pass."""
        now_s = self._clock()
        try:
            return self._look(uid, output_uri, now_s, listing)
        except NevaError as error:
            words = f"{error.reason}: {error.message}"
            return RunSeen(now_s, problem=(ConditionReason.STORE_UNREACHABLE, words))
        except (redis.RedisError, OperationalError) as error:
            words = queue.error_words(error)
            return RunSeen(now_s, problem=(ConditionReason.BROKER_UNREACHABLE, words))

    def start_round(self, run_id: str) -> None:
        """New workers begin: what troubled earlier ones is over."""
        clear_trouble(self._client, run_id)

    def purge(self, run_id: str) -> None:
        """Take everything of the run out of the broker. Broker errors pass through."""
        queue.purge(self._client, run_id)
        Leases(self._client, run_id, self._grace_s).purge()
        clear_trouble(self._client, run_id)

    def forget(self, uid: str) -> None:
        with self._lock:
            run = self._runs.pop(uid, None)
        if run is not None:
            run.app.close()

    def _look(self, uid: str, output_uri: str, now_s: float, listing: bool) -> RunSeen:
        with self._lock:
            run = self._runs.get(uid)
        if run is None:
            run = self._open(output_uri)
            if run is None:
                return RunSeen(now_s)
            with self._lock:
                self._runs[uid] = run
            listing = True
        progress = run.reconciler.step(listing=listing)
        run.num_done = max(run.num_done, progress.num_done)
        run.rate.add(now_s, run.num_done)
        # Stamped when the look began: what ended later was not seen by it.
        return self._seen(run, progress, now_s)

    def _open(self, output_uri: str) -> _Run | None:
        ledger = Ledger(open_store(output_uri))
        manifest = ledger.read_manifest()
        if manifest is None:
            return None
        app = queue.make_app(self._redis_url, manifest.run_id)
        leases = Leases(self._client, manifest.run_id, self._grace_s)
        reconciler = Reconciler(manifest, ledger, self._client, app, leases, grace_s=self._grace_s)
        control = Control(ledger.store)
        return _Run(ledger, manifest.run_id, control, reconciler, app, RateWindow())

    def _seen(self, run: _Run, progress: Progress, now_s: float) -> RunSeen:
        seen = RunSeen(
            looked_s=now_s,
            run_id=run.run_id,
            num_rows=progress.num_rows,
            num_done=run.num_done,
            num_failed=progress.num_failed,
            num_kept=progress.num_kept,
            order=run.control.look().order,
            num_shards=progress.num_shards,
            num_shards_done=progress.num_shards_done,
            num_leased=progress.num_leased,
            num_waiting=progress.num_waiting,
            rows_per_s=run.rate.rows_per_s,
            eta_s=run.rate.eta_s(progress.num_rows - run.num_done),
            trouble=progress.trouble,
        )
        store = run.ledger.store
        if not progress.finished:
            return seen
        summary = read_summary(store)
        return dataclasses.replace(seen, summary=summary, score=_score(store, summary))


def _score(store: Store, summary: dict[str, Any] | None) -> str | None:
    """The judge's headline: the answers' mean score as a share of the reference's, in percent."""
    if summary is None or summary.get("judge") is None:
        return None
    scores = read_scores(store) or {}
    relative = (scores.get("all") or {}).get("relative")
    return None if relative is None else f"{relative:.1f}"
