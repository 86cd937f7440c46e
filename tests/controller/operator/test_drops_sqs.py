"""Notifications through a real SQS protocol wake the same decisions that a listing does."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from controller.drop.listener import Listener
from neva.store.s3_client import current_environment, shared_client
from tests.controller.operator.drop_bench import DropBench
from tests.kube.fixtures import Cluster

PROMPT = b'{"question_id": 1, "video": "a.mp4", "text": "?"}\n'
POLL_S = 30


@pytest.fixture
def sqs(s3_endpoint: str) -> Any:
    return boto3.session.Session().client("sqs", endpoint_url=s3_endpoint, region_name="us-east-1")


@pytest.fixture
def queue_url(sqs: Any, s3_bucket: str) -> str:
    return str(sqs.create_queue(QueueName=f"notices-{s3_bucket}")["QueueUrl"])


@pytest.fixture
def bench(
    emulated_cluster: Cluster, s3_bucket: str, queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DropBench]:
    """A folder that was listed once, so that only notifications tell what comes next."""
    monkeypatch.setattr(Listener, "start", lambda self: None)
    with emulated_cluster.client() as client:
        bench = DropBench(emulated_cluster, f"s3://{s3_bucket}/", client)
        bench.make_folder(sqs={"queueUrl": queue_url}, pollSeconds=POLL_S)
        bench.turn()
        yield bench
        bench.controller.close()


def receive(bench: DropBench) -> int:
    [memory] = bench.controller._memory.values()
    assert memory.listener is not None
    return memory.listener.receive(wait_s=0)


def num_messages(sqs: Any, queue_url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def notify(sqs: Any, queue_url: str, bucket: str, *keys: str) -> None:
    records = [{"s3": {"bucket": {"name": bucket}, "object": {"key": key}}} for key in keys]
    sqs.send_message(QueueUrl=queue_url, MessageBody=json.dumps({"Records": records}))


@pytest.mark.parametrize(
    ("key", "sent"),
    [
        ("a+b.jsonl", "in/a+b.jsonl"),
        ("a+b.jsonl", "in%2Fa%2Bb.jsonl"),
        ("a b.jsonl", "in/a+b.jsonl"),
        ("a b.jsonl", "in%2Fa+b.jsonl"),
        ("a%20b.jsonl", "in/a%20b.jsonl"),
    ],
)
def test_a_notification_in_any_encoding_makes_the_job(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str, key: str, sent: str
) -> None:
    bench.inputs.put(key, PROMPT)
    notify(sqs, queue_url, s3_bucket, sent)
    assert receive(bench) == 1
    bench.turn(after_s=1)
    assert list(bench.jobs()) == [key]
    assert num_messages(sqs, queue_url) == 0


def test_the_stores_own_notifications_are_understood(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str
) -> None:
    names = {"QueueUrl": queue_url, "AttributeNames": ["QueueArn"]}
    arn = sqs.get_queue_attributes(**names)["Attributes"]["QueueArn"]
    told: Any = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    shared_client(current_environment()).put_bucket_notification_configuration(
        Bucket=s3_bucket, NotificationConfiguration=told
    )
    bench.inputs.put("a b+c.jsonl", PROMPT)
    assert receive(bench) >= 1
    bench.turn(after_s=1)
    assert list(bench.jobs()) == ["a b+c.jsonl"]


def test_a_notification_lists_what_it_names_and_nothing_else(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str
) -> None:
    bench.inputs.put("a.jsonl", PROMPT)
    bench.inputs.put("unnamed.jsonl", PROMPT)
    for key in ("x/prompts.jsonl", "x/v.mp4", "x/_READY"):
        bench.inputs.put(key, PROMPT)
    notify(sqs, queue_url, s3_bucket, "in/a.jsonl", "in/x/v.mp4", "in/x/_READY")
    receive(bench)
    bench.turn(after_s=1)
    assert sorted(bench.jobs()) == ["a.jsonl", "x/prompts.jsonl"]
    bench.turn(after_s=10 * POLL_S)
    assert sorted(bench.jobs()) == ["a.jsonl", "unnamed.jsonl", "x/prompts.jsonl"]


def test_a_named_file_is_looked_at_again_once_it_has_settled(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str
) -> None:
    bench.change_folder(settleSeconds=60)
    bench.turn()
    bench.inputs.put("a.jsonl", PROMPT)
    notify(sqs, queue_url, s3_bucket, "in/a.jsonl")
    receive(bench)
    bench.turn(after_s=1)
    assert bench.jobs() == {}
    bench.turn(after_s=60)
    assert list(bench.jobs()) == ["a.jsonl"]


def test_a_repeated_notification_makes_no_second_job(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str
) -> None:
    bench.inputs.put("a.jsonl", PROMPT)
    for _ in range(3):
        notify(sqs, queue_url, s3_bucket, "in/a.jsonl")
        receive(bench)
        bench.turn(after_s=1)
    assert len(bench.jobs()) == 1
    assert num_messages(sqs, queue_url) == 0


def test_a_message_stays_until_it_was_acted_on(
    bench: DropBench, sqs: Any, queue_url: str, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.inputs.put("a.jsonl", PROMPT)
    notify(sqs, queue_url, s3_bucket, "in/a.jsonl")
    receive(bench)
    with monkeypatch.context() as patch:
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        patch.setattr("controller.drop.bucket.Bucket.list_drops", _unreachable)
        bench.turn(after_s=1)
    assert num_messages(sqs, queue_url) == 1
    bench.turn(after_s=1)
    assert list(bench.jobs()) == ["a.jsonl"], "the name is not forgotten, either"


def _unreachable(*_: Any) -> Any:
    from neva.store import StoreUnavailable

    raise StoreUnavailable("not now")


def test_what_is_no_notification_is_left_to_the_queue(
    bench: DropBench, sqs: Any, queue_url: str
) -> None:
    sqs.send_message(QueueUrl=queue_url, MessageBody="hello")
    receive(bench)
    bench.turn(after_s=1)
    assert num_messages(sqs, queue_url) == 1


def test_a_listening_thread_wakes_the_folder_and_ends_when_told(
    sqs: Any, queue_url: str, s3_bucket: str
) -> None:
    woken = threading.Event()
    listener = Listener(queue_url, s3_bucket, "in/", woken.set)
    before = Counter(thread.name for thread in threading.enumerate())
    listener.start()
    notify(sqs, queue_url, s3_bucket, "in/a.jsonl")
    assert woken.wait(60)
    [notice] = listener.take()
    assert notice.keys == {"a.jsonl"}
    listener.stop()
    notify(sqs, queue_url, s3_bucket, "in/b.jsonl")  # ends its long poll
    for thread in threading.enumerate():
        if thread.name == "sqs":
            thread.join(60)
    assert Counter(t.name for t in threading.enumerate())["sqs"] == before["sqs"] == 0
