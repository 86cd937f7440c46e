"""S3 event notifications → keys to look at. Pure.

What a store means by a key differs: AWS sends `in/a+b` for the key "in/a b" (a form's encoding),
others `in%2Fa+b`, others the raw key. So every reading of it is looked at; a key that names
nothing costs one request.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

from neva.store.base import is_valid_key

_MAX_DEPTH = 3  # a notification inside SNS' envelope inside a queue's


def keys_of(body: str, bucket: str, prefix: str) -> set[str] | None:
    """The keys, relative to `prefix`, that a message may be about.

    Returns:
        None when the message is no notification at all; a test message has no keys.
    """
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = list(_objects(data, 0))
    if not found and not _is_notification(data):
        return None
    keys = set()
    for named_bucket, key in found:
        if named_bucket != bucket:
            continue
        for reading in (key, unquote(key), unquote_plus(key)):
            relative = reading.removeprefix(prefix)
            if reading.startswith(prefix) and is_valid_key(relative):
                keys.add(relative)
    return keys


def _objects(data: Any, depth: int) -> Iterator[tuple[str, str]]:
    """(bucket, key) of everything that a message names."""
    if not isinstance(data, dict) or depth > _MAX_DEPTH:
        return
    records = data.get("Records")
    for record in records if isinstance(records, list) else []:
        named = record.get("s3") if isinstance(record, dict) else None
        yield from _named(named)
    yield from _named(data.get("detail"))  # EventBridge
    inner = data.get("Message")  # SNS
    if isinstance(inner, str):
        try:
            yield from _objects(orjson.loads(inner), depth + 1)
        except orjson.JSONDecodeError:
            return


def _named(named: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(named, dict):
        return
    bucket, item = named.get("bucket"), named.get("object")
    if isinstance(bucket, dict) and isinstance(item, dict):
        name, key = bucket.get("name"), item.get("key")
        if isinstance(name, str) and isinstance(key, str):
            yield name, key


def _is_notification(data: Any) -> bool:
    return isinstance(data, dict) and (
        data.get("Event") == "s3:TestEvent" or "Records" in data or "Message" in data
    )
