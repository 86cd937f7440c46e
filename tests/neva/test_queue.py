"""The queue on a real server."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
import redis
import redis.sentinel

from neva import queue


def test_a_message_holds_ids_only_as_json(broker_url: str, redis_client: redis.Redis) -> None:
    with queue.make_app(broker_url, "run1") as app:
        queue.send(app, queue.ShardMessage("run1", 12))
    assert queue.depth(redis_client, "run1") == queue.QueueDepth(ready=1, unacked=0)
    (raw,) = redis_client.lrange(queue.queue_name("run1") + "\x06\x169", 0, -1)
    message = orjson.loads(raw)
    assert message["content-type"] == "application/json"
    args, kwargs, _ = orjson.loads(base64.b64decode(message["body"]))
    assert (args, kwargs) == ([], {"run": "run1", "shard": 12})


def test_what_is_sent_first_is_read_before_all_that_waits(
    broker_url: str, redis_client: redis.Redis
) -> None:
    with queue.make_app(broker_url, "run1") as app:
        for shard in range(3):
            queue.send(app, queue.ShardMessage("run1", shard))
        queue.send(app, queue.ShardMessage("run1", 7), first=True)
        assert queue.waiting_shards(redis_client, "run1") == {0, 1, 2, 7}
        assert queue.depth(redis_client, "run1").ready == 4
        got: list[int] = []
        with app.connection_for_read() as connection:
            consumer = app.amqp.TaskConsumer(
                connection.default_channel, callbacks=[lambda body, _: got.append(body[1]["shard"])]
            )
            with consumer:
                while len(got) < 4:
                    connection.drain_events(timeout=5)
    assert got == [7, 0, 1, 2]
    queue.purge(redis_client, "run1")
    assert queue.waiting_shards(redis_client, "run1") == set()
    assert queue.depth(redis_client, "run1") == queue.QueueDepth(ready=0, unacked=0)


def test_taken_messages_are_known_until_they_are_acknowledged_and_other_runs_are_not_mixed_in(
    broker_url: str, redis_client: redis.Redis
) -> None:
    taken = queue.TakenMessages(redis_client, "run1")
    with queue.make_app(broker_url, "run2") as other, queue.make_app(broker_url, "run1") as app:
        queue.send(other, queue.ShardMessage("run2", 5))
        queue.send(app, queue.ShardMessage("run1", 7))
        assert taken.look() == {}, "none is taken yet"
        with other.connection_for_read() as there, app.connection_for_read() as here:
            there.SimpleQueue(other.amqp.queues[queue.queue_name("run2")]).get(timeout=5)
            message = here.SimpleQueue(app.amqp.queues[queue.queue_name("run1")]).get(timeout=5)
            for _ in range(2):
                assert taken.look() == {message.delivery_tag.encode(): 7}
            message.ack()
            assert taken.look() == {}


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
        ("redis+sentinel://a,b:7/m/1", "sentinel://a:26379/1;sentinel://b:7/1"),
    ],
)
def test_redis_urls_in_celerys_words(redis_url: str, celery_url: str) -> None:
    with queue.make_app(redis_url, "run") as app:
        assert app.conf.broker_url == celery_url


def test_with_tls_sentinels_and_servers_are_reached_by_tls_with_their_own_passwords() -> None:
    url = (
        "rediss+sentinel://user:word@a/m?sentinel_password=other"
        "&ssl_ca_certs=/ca.crt&ssl_check_hostname=false"
    )
    tls = {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.crt", "ssl_check_hostname": False}
    with queue.make_app(url, "run") as app, app.connection_for_write() as connection:
        assert connection.userid == "user"
        assert connection.password == "word"
        assert connection.ssl == tls
        assert connection.transport_options["master_name"] == "m"
        celerys = connection.transport_options["sentinel_kwargs"]
        assert {**celerys, "ssl": True, "password": "other", **tls} == celerys
    pool: Any = queue.connect(url).connection_pool
    assert pool.connection_class is redis.sentinel.SentinelManagedSSLConnection
    ours = pool.connection_kwargs
    assert {**ours, "username": "user", "password": "word", "db": 0, **tls} == ours
    (sentinel,) = pool.sentinel_manager.sentinels
    assert sentinel.connection_pool.connection_class is redis.SSLConnection
    assert sentinel.connection_pool.connection_kwargs["password"] == "other"
