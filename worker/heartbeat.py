"""The one heartbeat of a shard at work: renews the lease and the message's visibility together.

A thread, because the shard's own thread may sit in a decoder for seconds. It writes nothing but
Redis; when it finds the lease lost it sets a flag, and the shard's thread stops writing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import redis
import structlog

from neva import queue
from neva.lease import Lease, Leases

log = structlog.get_logger()


class Heartbeat:
    """Beats while its `with` block runs, and releases the lease after it.

    Args:
        superseded: asks the ledger whether a later attempt exists or the shard is committed;
            needed after the lease had expired, when Redis alone can't tell.
    """

    def __init__(
        self,
        leases: Leases,
        client: redis.Redis,
        shard: int,
        attempt: int,
        delivery_tag: str | None,
        superseded: Callable[[], bool],
        interval_s: float,
    ) -> None:
        self._leases = leases
        self._client = client
        self._shard = shard
        self._attempt = attempt
        self._delivery_tag = delivery_tag
        self._superseded = superseded
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"heartbeat-{shard}", daemon=True)
        self.num_done = 0
        self.num_failed = 0

    @property
    def lost(self) -> bool:
        """A later attempt has the shard; nothing may be written any more."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._beat()
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        try:
            self._leases.release(self._shard, self._attempt)
        except redis.RedisError as error:
            log.warning("lease not released, it will expire", error=str(error))

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s) and not self.lost:
            self._beat()

    def _beat(self) -> None:
        lease = Lease(self._attempt, self.num_done, self.num_failed)
        try:
            kept = self._leases.beat(self._shard, lease)
            if self._delivery_tag is not None:
                queue.prolong(self._client, self._delivery_tag)
        except redis.RedisError as error:
            # Redis is a hint: work goes on, and the ledger's fencing decides who wins.
            log.warning("no heartbeat", error=str(error))
            return
        if kept is False or (kept is None and self._superseded()):
            self._lost.set()
