"""Listens to an SQS queue of S3 event notifications, in a thread of its own.

The queue belongs to one drop folder: what is no notification is left to the queue's own redrive
policy, everything else is deleted once it was acted on. A lost message is no harm: the listing
finds what it would have told.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3.session
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from controller.drop.notices import keys_of

log = structlog.get_logger()

_LONG_POLL_S = 20
_MAX_MESSAGES = 10
_PAUSE_S = 10.0  # after an error


@dataclass(frozen=True, slots=True)
class Notice:
    """A message: the keys it may be about, and how to delete it."""

    keys: frozenset[str]
    receipt: str


class Listener:
    """One queue. `wake` is called, in its thread, when there are notices to take."""

    def __init__(self, queue_url: str, bucket: str, prefix: str, wake: Callable[[], None]) -> None:
        self.queue_url = queue_url
        self._bucket = bucket
        self._prefix = prefix
        self._wake = wake
        self._client = _client(queue_url)
        self._lock = threading.Lock()
        self._notices: list[Notice] = []
        self._stopping = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._listen, name="sqs", daemon=True).start()

    def stop(self) -> None:
        self._stopping.set()

    def take(self) -> list[Notice]:
        """What came since the last call."""
        with self._lock:
            taken, self._notices = self._notices, []
        return taken

    def delete(self, notices: Iterable[Notice]) -> None:
        """Delete messages that were acted on; one that stays comes again, which is no harm."""
        receipts = [notice.receipt for notice in notices]
        for start in range(0, len(receipts), _MAX_MESSAGES):
            chosen = receipts[start : start + _MAX_MESSAGES]
            entries = [{"Id": str(n), "ReceiptHandle": text} for n, text in enumerate(chosen)]
            try:
                self._client.delete_message_batch(QueueUrl=self.queue_url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                log.warning("messages not deleted", queue=self.queue_url, error=str(error))

    def receive(self, wait_s: int = _LONG_POLL_S) -> int:
        """Fetch messages once; returns how many."""
        answer = self._client.receive_message(
            QueueUrl=self.queue_url, MaxNumberOfMessages=_MAX_MESSAGES, WaitTimeSeconds=wait_s
        )
        messages = answer.get("Messages", ())
        found = []
        for message in messages:
            keys = keys_of(message["Body"], self._bucket, self._prefix)
            if keys is None:
                log.warning("no S3 notification", queue=self.queue_url, id=message["MessageId"])
                continue
            found.append(Notice(frozenset(keys), message["ReceiptHandle"]))
        if found:
            with self._lock:
                self._notices += found
            self._wake()
        return len(messages)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            try:
                self.receive()
            except (BotoCoreError, ClientError) as error:
                log.warning("queue not read", queue=self.queue_url, error=str(error))
                self._stopping.wait(_PAUSE_S)


def _client(queue_url: str) -> Any:
    """A client for the server that the queue's URL names, whatever the object store's is."""
    url = urlsplit(queue_url)
    labels = (url.hostname or "").split(".")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    if labels[0] == "sqs" and len(labels) > 2:  # sqs.eu-central-1.amazonaws.com
        region = labels[1]
    return boto3.session.Session().client(
        "sqs",
        endpoint_url=f"{url.scheme}://{url.netloc}",
        region_name=region,
        config=Config(connect_timeout=5, read_timeout=_LONG_POLL_S + 15),
    )
