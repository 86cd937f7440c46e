"""The Celery queue between controller and workers: configuration, message, depth.

Messages hold ids only, as JSON. They are hints: any of them may be lost or come twice, and the
controller repairs that out of the ledger. The settings below are what makes a GPU shard safe on
Redis:

* `acks_late` with `reject_on_worker_lost`: a shard whose child was killed goes back to the queue;
* prefetch off: a shard waits in the queue, where another worker can take it, not in a busy one;
* a short visibility timeout, prolonged by the lease's heartbeat (`prolong`), and a quick sweep
  (kombu's default looks for lost messages every 100 s or so);
* two priorities, which kombu keeps as two lists: a shard whose worker died goes before all that
  nobody has begun;
* no results, no events: nothing that piles up in Redis.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

import orjson
import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from neva.broker_url import SentinelUrl, parse_broker_url

TASK_NAME = "neva.run_shard"
VISIBILITY_TIMEOUT_S = 30
_SOCKET_TIMEOUT_S = 5
_TIMEOUTS = {"socket_timeout": _SOCKET_TIMEOUT_S, "socket_connect_timeout": _SOCKET_TIMEOUT_S}
# Once more at once, as a pooled connection may be to a server that is gone; redis-py's own way, to
# wait for seconds, would cost a beat its lease.
_RETRY_ONCE = Retry(NoBackoff(), 1)
# kombu's priorities, the first read first, and how it names the lists of all but number 0.
_FIRST, _ORDINARY = 0, 9
_PRIORITY_SEPARATOR = "\x06\x16"
_READ_CHUNK = 1000
_UNACKED_INDEX = "unacked_index"  # kombu's sorted set: delivery tag → time of delivery
_UNACKED = "unacked"  # kombu's hash: delivery tag → [message, exchange, routing key]
_BINDING_PREFIXES = ("_kombu.binding.", "_kombu.binding_permanent.")


@dataclass(frozen=True, slots=True)
class ShardMessage:
    """What a task says."""

    run: str
    shard: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Messages of one queue that wait, and of the whole broker that are being worked on."""

    ready: int
    unacked: int


def queue_name(run_id: str) -> str:
    return f"neva.{run_id}"


def connect(redis_url: str) -> redis.Redis:
    """A client that gives up on a silent server in seconds, not when TCP does.

    With Sentinels it asks them for the master whenever it connects, so after a failover, too.

    Raises:
        ConfigError: no URL of a broker (`neva.broker_url`).
    """
    sentinels = parse_broker_url(redis_url)
    if sentinels is None:
        return redis.Redis.from_url(redis_url, retry=_RETRY_ONCE, **_TIMEOUTS)
    manager = Sentinel(  # type: ignore[no-untyped-call]
        list(sentinels.hosts),
        sentinel_kwargs=_sentinel_arguments(sentinels),
        db=sentinels.db,
        retry=_RETRY_ONCE,
        **sentinels.credentials,
        **_tls_arguments(sentinels),
        **_TIMEOUTS,
    )
    client: redis.Redis = manager.master_for(sentinels.master_name)  # type: ignore[no-untyped-call]
    return client


def make_app(redis_url: str, run_id: str) -> Celery:
    """The Celery application, the same for producer and consumer.

    Args:
        redis_url: as `neva.broker_url` spells it.

    Raises:
        ConfigError: no URL of a broker.
    """
    app = Celery("neva", set_as_current=False)
    app.conf.update(
        **_broker_settings(redis_url),
        broker_connection_retry_on_startup=True,
        task_default_queue=queue_name(run_id),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        enable_utc=True,
    )
    return app


def send(app: Celery, message: ShardMessage, *, first: bool = False) -> None:
    """Send behind all others; `first`: before them, though not before what was sent so, too."""
    app.send_task(
        TASK_NAME,
        kwargs={"run": message.run, "shard": message.shard},
        priority=_FIRST if first else _ORDINARY,
    )


def waiting_shards(client: redis.Redis, run_id: str, *, first: bool = False) -> set[int]:
    """Shards whose messages wait in the run's queue. Reads the whole queue.

    Args:
        first: only those before all others, which are few.
    """
    shards = set()
    for name in _lists(run_id)[: 1 if first else None]:
        start = 0
        while messages := client.lrange(name, start, start + _READ_CHUNK - 1):
            shards |= {_shard_of(message) for message in messages}
            start += len(messages)
    return shards


class TakenMessages:
    """One run's messages that some worker has taken, and has not acknowledged.

    kombu keeps them until then, or until the visibility timeout: so also those of a worker that was
    killed before anybody could see it hold a lease. Each is read once, however often one looks.
    """

    def __init__(self, client: redis.Redis, run_id: str) -> None:
        self._client = client
        self._queue = queue_name(run_id)
        self._shards: dict[bytes, int | None] = {}  # by delivery tag; None: another run's

    def look(self) -> dict[bytes, int]:
        """Shards by delivery tag. A message that comes back to the queue keeps its tag."""
        tags: list[Any] = self._client.zrange(_UNACKED_INDEX, 0, -1)
        new = [tag for tag in tags if tag not in self._shards]
        messages: list[Any] = self._client.hmget(_UNACKED, new) if new else []
        found = {
            tag: self._shard_of(message)
            for tag, message in zip(new, messages, strict=True)
            if message is not None  # gone since
        }
        known = self._shards | found
        self._shards = {tag: known[tag] for tag in tags if tag in known}
        return {tag: shard for tag, shard in self._shards.items() if shard is not None}

    def _shard_of(self, taken: bytes) -> int | None:
        if self._queue.encode() not in taken:
            return None  # of any application that shares this database, in any JSON
        message, _, routing_key = orjson.loads(taken)
        return _body_shard(message) if routing_key == self._queue else None


def _shard_of(raw: bytes | str) -> int:
    return _body_shard(orjson.loads(raw))


def _body_shard(message: dict[str, Any]) -> int:
    _, arguments, _ = orjson.loads(base64.b64decode(message["body"]))
    return int(arguments["shard"])


def prolong(client: redis.Redis, delivery_tag: str) -> None:
    """Tell kombu that the message is still being worked on.

    XX matters: without it a late beat would bring an acknowledged message back to life.
    """
    client.zadd(_UNACKED_INDEX, {delivery_tag: time.time()}, xx=True)


def depth(client: redis.Redis, run_id: str) -> QueueDepth:
    pipe = client.pipeline(transaction=False)
    for name in _lists(run_id):
        pipe.llen(name)
    pipe.hlen(_UNACKED)
    *ready, unacked = pipe.execute()
    return QueueDepth(sum(ready), int(unacked))


def error_words(error: Exception) -> str:
    """What a broker's error says. redis-py's about Sentinels spells whole connections out."""
    return str(error).partition(" : <redis.")[0]


def purge(client: redis.Redis, run_id: str) -> None:
    """Take everything of a run out of the broker, messages being worked on included.

    Those would come back to the queue after the visibility timeout, and stay there for ever.
    """
    name = queue_name(run_id)
    tags = [
        tag
        for tag, message in client.hscan_iter(_UNACKED, count=500)
        if f'"routing_key": "{name}"'.encode() in message
    ]
    pipe = client.pipeline(transaction=False)
    pipe.delete(*_lists(run_id), *(f"{prefix}{name}" for prefix in _BINDING_PREFIXES))
    for tag in tags:
        pipe.hdel(_UNACKED, tag)
        pipe.zrem(_UNACKED_INDEX, tag)
    pipe.execute()


def _lists(run_id: str) -> tuple[str, str]:
    """Redis's names of the queue's lists, in the order in which they are read."""
    name = queue_name(run_id)
    return name, f"{name}{_PRIORITY_SEPARATOR}{_ORDINARY}"


def _broker_settings(redis_url: str) -> dict[str, Any]:
    """Where Celery finds the broker, and how it treats it."""
    options: dict[str, Any] = {
        "priority_steps": [_FIRST, _ORDINARY],
        "sep": _PRIORITY_SEPARATOR,
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "unacked_restore_interval": 2,
        "unacked_restore_throttle": 1,
        # The lock of that sweep, which whoever is killed in it keeps: kombu's default is 5 minutes.
        "unacked_mutex_expire": 10,
        "socket_timeout": 30,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
    sentinels = parse_broker_url(redis_url)
    if sentinels is None:
        url = redis_url.replace("unix://", "redis+socket://", 1)
        return {"broker_url": url, "broker_transport_options": options}
    options["master_name"] = sentinels.master_name
    options["sentinel_kwargs"] = _sentinel_arguments(sentinels)
    options["socket_connect_timeout"] = _SOCKET_TIMEOUT_S
    return {
        "broker_url": sentinels.celery_url,
        "broker_transport_options": options,
        "broker_use_ssl": sentinels.tls or False,
    }


def _sentinel_arguments(url: SentinelUrl) -> dict[str, Any]:
    """How redis-py connects to the Sentinels themselves.

    Without its retries: one that is away would cost seconds at each look, and there are others.
    """
    once = {"retry": Retry(NoBackoff(), 0)}
    return {**url.sentinel_credentials, **_tls_arguments(url), **_TIMEOUTS, **once}


def _tls_arguments(url: SentinelUrl) -> dict[str, Any]:
    return {} if url.tls is None else {"ssl": True, **url.tls}
