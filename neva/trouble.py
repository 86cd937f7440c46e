"""What keeps workers from working, for whoever watches the run. A hint in Redis that fades.

A row's own error is in the ledger. This is for what is nobody's row: a store that refuses, a
ledger that was tampered with, a model that is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import redis

from neva.errors import NevaError

_LIFE_S = 60


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last error that made a worker leave a shard."""

    reason: str
    message: str
    retryable: bool


def _key(run_id: str) -> str:
    return f"neva:{run_id}:trouble"


def report_trouble(client: redis.Redis, run_id: str, error: NevaError) -> None:
    """Say it. Broker errors pass through."""
    trouble = Trouble(str(error.reason), error.message, error.retryable)
    client.set(_key(run_id), orjson.dumps(trouble), ex=_LIFE_S)


def clear_trouble(client: redis.Redis, run_id: str) -> None:
    """Forget what was said in an earlier start of the run."""
    client.delete(_key(run_id))


def read_trouble(client: redis.Redis, run_id: str) -> Trouble | None:
    """What was said last, within the last minute."""
    data = client.get(_key(run_id))
    return Trouble(**orjson.loads(data)) if isinstance(data, bytes) else None
