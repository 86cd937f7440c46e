"""Asks a store, before a job relies on it, whether it can decide a race.

Every commit is one conditional PUT. Some S3 look-alikes ignore If-None-Match, and on those two
workers could both believe they committed: such a store is refused, with the probe named.
"""

from __future__ import annotations

import secrets

import structlog

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store.base import AlreadyExists, Store, StoreDenied, StoreError, put_if_absent_or_same

PROBE_PREFIX = ".neva-probe/"

_log = structlog.get_logger(__name__)


def probe_conditional_put(store: Store) -> None:
    """Check that the store is writable and that a second conditional put loses.

    Writes one small object under `.neva-probe/`, tries to write it again, and deletes it.

    Raises:
        ConfigError: reason `UNSUPPORTED_STORE` when conditional puts can't be trusted.
        StoreDenied, BucketNotFound, StoreUnavailable, StoreError: it can't be written at all.
    """
    key = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    first, second = b"first " + key.encode(), b"second " + key.encode()
    try:
        put_if_absent_or_same(store, key, first)
    except StoreError as error:
        if error.reason is Reason.UNSUPPORTED_STORE:
            raise _refusal(store, key, error.message) from error
        raise type(error)(f"{store.base_uri} can't be written: {error.message}") from error
    try:
        problem = _second_put(store, key, second)
        if problem is None and store.get(key) != first:
            problem = "a conditional PUT that was refused changed the object all the same"
    finally:
        _clean_up(store, key)
    if problem is not None:
        raise _refusal(store, key, problem)


def _second_put(store: Store, key: str, data: bytes) -> str | None:
    """What is wrong with the store's answer, or None."""
    try:
        store.put(key, data, if_absent=True)
    except AlreadyExists:
        return None
    except StoreError as error:
        if error.reason is Reason.UNSUPPORTED_STORE:
            return error.message
        raise
    return "a second PUT with If-None-Match: * replaced the first instead of failing"


def _refusal(store: Store, key: str, problem: str) -> ConfigError:
    return ConfigError(
        f"{store.base_uri} can't decide a race, so answers could be lost or doubled there: "
        f"{problem} (probe: {key}). Use a store with conditional writes, such as AWS S3, "
        "a recent MinIO or Ceph, or a local directory",
        reason=Reason.UNSUPPORTED_STORE,
    )


def _clean_up(store: Store, key: str) -> None:
    try:
        store.delete(key)
    except StoreDenied as error:
        # Nothing else in a job needs the right to delete.
        _log.warning("probe_left_behind", uri=store.uri_of(key), why=error.message)
