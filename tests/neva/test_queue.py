"""The queue on a real server."""

from __future__ import annotations

import base64

import orjson
import pytest
import redis

from neva import queue


def test_a_message_holds_ids_only_as_json(broker_url: str, redis_client: redis.Redis) -> None:
    with queue.make_app(broker_url, "run1") as app:
        queue.send(app, queue.ShardMessage("run1", 12))
    assert queue.depth(redis_client, "run1") == queue.QueueDepth(ready=1, unacked=0)
    (raw,) = redis_client.lrange(queue.queue_name("run1"), 0, -1)
    message = orjson.loads(raw)
    assert message["content-type"] == "application/json"
    args, kwargs, _ = orjson.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {"run": "run1", "shard": 12})


def test_prolonging_never_revives_an_acknowledged_message(redis_client: redis.Redis) -> None:
    queue.prolong(redis_client, "tag")
    assert redis_client.zcard("unacked_index") == 0
    redis_client.zadd("unacked_index", {"tag": 1.0})
    queue.prolong(redis_client, "tag")
    score = redis_client.zscore("unacked_index", "tag")
    assert isinstance(score, float)
    assert score > 1.0


@pytest.mark.parametrize(
    ("redis_url", "celery_url"),
    [
        ("unix:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("redis://host:6379/1", "redis://host:6379/1"),
        ("rediss://user:word@host:6380", "rediss://user:word@host:6380"),
    ],
)
def test_redis_urls_in_celerys_words(redis_url: str, celery_url: str) -> None:
    assert queue.broker_url(redis_url) == celery_url
