"""The queue between controllers and workers: messages that wait, and messages in work."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import orjson
import redis

from neva import queue
from tests.fakes.redis_server import FakeRedis
from tests.ledger_model.scheduler import Scheduler


def no_broker() -> Exception:
    return redis.ConnectionError("no answer")


class ModelBroker:
    """Celery's side of the server: what the controller sends, a worker takes and acknowledges.

    Attributes:
        unacked: shard by delivery tag, of messages that a worker has taken.
    """

    def __init__(self, scheduler: Scheduler, server: FakeRedis, run_id: str) -> None:
        self._scheduler = scheduler
        self._server = server
        self._run_id = run_id
        self._name = queue.queue_name(run_id)
        self._num_taken = 0
        self.unacked: dict[str, int] = {}

    @property
    def waiting(self) -> list[int]:
        """Shards whose messages wait, in the order in which they will be taken."""
        return [_shard_of(message) for name in self._lists for message in name]

    @property
    def _lists(self) -> list[list[bytes]]:
        """kombu's lists, one a priority, the first of them read first."""
        names = sorted(name for name in self._server.lists if name.startswith(self._name))
        return [self._server.lists[name] for name in names]

    def send_task(self, name: str, kwargs: dict[str, Any], priority: int = 0) -> None:
        """What `neva.queue.send` asks of the Celery application."""
        assert name == queue.TASK_NAME
        shard = kwargs["shard"]
        self._ask("send", str(shard), lambda: self.put(shard, priority))

    def take(self) -> tuple[str, int]:
        """Wait for a message: its delivery tag and shard."""

        def effect() -> tuple[str, int]:
            shard = self.pop()
            self._num_taken += 1
            tag = f"tag-{self._num_taken}"
            self.unacked[tag] = shard
            self._server.zadd("unacked_index", {tag: 0.0})
            message = orjson.loads(_message(self._run_id, shard))
            self._server.hset("unacked", tag, orjson.dumps([message, "", self._name]))
            return tag, shard

        return self._scheduler.request("pop", "", effect, ready=lambda: bool(self.waiting))  # type: ignore[no-any-return]

    def acknowledge(self, tag: str) -> None:
        self._ask("ack", tag, lambda: self._forget(tag))

    def give_back(self, tag: str) -> None:
        """Reject with requeue; also what happens to a message whose child died."""
        self._ask("requeue", tag, lambda: self.restore(tag))

    def restore(self, tag: str) -> None:
        """A message in work comes back to the queue."""
        shard = self._forget(tag)
        if shard is not None:
            self.put(shard)

    def flush(self) -> None:
        self._server.flushall()
        self.unacked.clear()

    def put(self, shard: int, priority: int = 0) -> None:
        """A message is there."""
        name = f"{self._name}\x06\x16{priority}" if priority else self._name
        self._server.rpush(name, _message(self._run_id, shard))

    def pop(self) -> int:
        """A message is gone; its shard."""
        waiting = next(messages for messages in self._lists if messages)
        return _shard_of(waiting.pop(0))

    def _forget(self, tag: str) -> int | None:
        """No message of this tag is in work any more; its shard."""
        self._server.zrem("unacked_index", tag)
        self._server.hdel("unacked", tag)
        return self.unacked.pop(tag, None)

    def _ask(self, verb: str, key: str, effect: Callable[[], Any]) -> Any:
        # An acknowledgement that fails is Celery's own trouble: the message comes again.
        error = no_broker if verb == "send" else None
        return self._scheduler.request(verb, key, effect, error)


def _message(run_id: str, shard: int) -> bytes:
    """As Celery and kombu write it, as far as anybody reads it."""
    body = orjson.dumps(([], {"run": run_id, "shard": shard}, {}))
    return orjson.dumps({"body": base64.b64encode(body).decode()})


def _shard_of(message: bytes) -> int:
    _, arguments, _ = orjson.loads(base64.b64decode(orjson.loads(message)["body"]))
    return int(arguments["shard"])
