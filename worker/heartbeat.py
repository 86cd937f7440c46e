"""The one heartbeat of a shard at work: renews the lease and the message's visibility together.

A thread, because the shard's own thread may sit in a decoder for seconds. It writes nothing but
Redis; when it finds the lease lost it sets a flag, and the shard's thread stops writing. It is also
the watchdog: a shard's thread that gives no sign of life for too long is stuck in foreign code that
nothing can interrupt, so the whole child is killed. The attempt then counts, as it should: the row
that hangs is found by halving, like one that crashes.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType
from typing import Self

import redis
import structlog

from neva import queue
from neva.errors import NevaError
from neva.lease import Lease, Leases

log = structlog.get_logger()


class Heartbeat:
    """Beats while its `with` block runs, and releases the lease after it.

    Args:
        superseded: asks the ledger whether a later attempt exists or the shard is committed;
            needed after the lease had expired, when Redis alone can't tell.
        stall_s: longest silence of the shard's thread (`alive`) before the child is killed.
        sign_of_life: called at each beat, for who can kill this process when it beats no more.
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
        stall_s: float,
        sign_of_life: Callable[[], None] | None = None,
    ) -> None:
        self._leases = leases
        self._client = client
        self._shard = shard
        self._attempt = attempt
        self._delivery_tag = delivery_tag
        self._superseded = superseded
        self._interval_s = interval_s
        self._stall_s = stall_s
        self._sign_of_life = sign_of_life
        self._alive_s = self._held_s = time.monotonic()
        self._must_ask = False
        self._stop = threading.Event()
        self._lost = threading.Event()
        # With the shard's thread's context, which is logged.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._run,), name=f"heartbeat-{shard}", daemon=True
        )
        self.num_done = 0
        self.num_failed = 0

    @property
    def lost(self) -> bool:
        """A later attempt has the shard; nothing may be written any more."""
        return self._lost.is_set()

    def lost_before_write(self) -> bool:
        """`lost`, as the shard's thread asks right before it writes.

        A process that was stopped for a while, or can't reach the broker, may have lost the lease
        without having heard of it: when by our own clock it has run out, the ledger is asked, once
        per lifetime of a lease. Raises store errors.
        """
        now_s = time.monotonic()
        if not self.lost and now_s - self._held_s > self._leases.ttl_s:
            if self._superseded():
                self._lost.set()
            else:
                self._held_s = now_s
        return self.lost

    def alive(self) -> None:
        """The shard's thread says that it is not stuck."""
        self._alive_s = time.monotonic()

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
            silence_s = time.monotonic() - self._alive_s
            if silence_s > self._stall_s:
                log.error("stuck, killing this process", shard=self._shard, seconds=silence_s)
                os.kill(os.getpid(), signal.SIGKILL)
            if self._sign_of_life is not None:
                self._sign_of_life()
            self._beat()

    def _beat(self) -> None:
        lease = Lease(self._attempt, self.num_done, self.num_failed)
        asked_s = time.monotonic()
        try:
            kept = self._leases.beat(self._shard, lease)
        except redis.RedisError as error:
            # Redis is a hint: work goes on, and the ledger's fencing decides who wins.
            log.warning("no heartbeat", error=str(error))
            return
        if kept:
            self._held_s = asked_s
        # What was learned counts at once, whatever becomes of the message.
        if kept is False:
            self._lost.set()
            return
        if self._must_ask or kept is None:
            self._ask_ledger()
        self._prolong()

    def _prolong(self) -> None:
        if self._delivery_tag is None or self.lost:
            return
        try:
            queue.prolong(self._client, self._delivery_tag)
        except redis.RedisError as error:
            log.warning("message not prolonged, it may come twice", error=str(error))

    def _ask_ledger(self) -> None:
        self._must_ask = True
        try:
            superseded = self._superseded()
        except NevaError as error:
            log.warning("can't ask the ledger, asking again", error=error.message)
            return
        self._must_ask = False
        if superseded:
            self._lost.set()
