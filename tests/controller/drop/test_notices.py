"""Keys in S3 event notifications, in every encoding that stores send."""

from __future__ import annotations

import json

import pytest

from controller.drop.notices import keys_of


def message(key: str, bucket: str = "eval") -> dict[str, object]:
    named = {"bucket": {"name": bucket}, "object": {"key": key, "eTag": "e"}}
    return {"Records": [{"eventName": "ObjectCreated:Put", "s3": named}]}


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("in/a+b.jsonl", "a b.jsonl"),  # AWS: a form's encoding
        ("in/a+b.jsonl", "a+b.jsonl"),  # raw
        ("in%2Fa+b.jsonl", "a b.jsonl"),
        ("in%2Fa%2Bb.jsonl", "a+b.jsonl"),
        ("in/a%20b.jsonl", "a b.jsonl"),
        ("in/100%25.jsonl", "100%.jsonl"),
        ("in/100%25.jsonl", "100%25.jsonl"),  # raw
        ("in/%C3%A9.jsonl", "é.jsonl"),
        ("in/é b.jsonl", "é b.jsonl"),  # raw
        ("in/x%2Fprompts.jsonl", "x/prompts.jsonl"),
    ],
)
def test_every_encoding_leads_to_the_key(sent: str, meant: str) -> None:
    keys = keys_of(json.dumps(message(sent)), "eval", "in/")
    assert keys is not None and meant in keys


def test_envelopes_of_sns_and_eventbridge_are_opened() -> None:
    inner = json.dumps(message("in/a.jsonl"))
    assert keys_of(json.dumps({"Type": "Notification", "Message": inner}), "eval", "in/") == {
        "a.jsonl"
    }
    detail = {"bucket": {"name": "eval"}, "object": {"key": "in/a.jsonl"}}
    event = {"detail-type": "Object Created", "detail": detail}
    assert keys_of(json.dumps(event), "eval", "in/") == {"a.jsonl"}


def test_other_buckets_and_prefixes_are_not_ours() -> None:
    assert keys_of(json.dumps(message("in/a.jsonl", "other")), "eval", "in/") == set()
    assert keys_of(json.dumps(message("elsewhere/a.jsonl")), "eval", "in/") == set()
    assert keys_of(json.dumps(message("in/../a.jsonl")), "eval", "in/") == set()


def test_a_test_message_has_no_keys() -> None:
    assert keys_of(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}), "b", "") == set()


@pytest.mark.parametrize("body", ["no json", "[]", "{}", '"text"', '{"detail": 5}', "null"])
def test_what_is_no_notification_is_told_apart(body: str) -> None:
    assert keys_of(body, "eval", "in/") is None


@pytest.mark.parametrize(
    "body", ['{"Records": 5}', '{"Records": [5, {"s3": {"object": {}}}]}', '{"Message": "text"}']
)
def test_damaged_notifications_name_nothing(body: str) -> None:
    assert keys_of(body, "eval", "in/") == set()
