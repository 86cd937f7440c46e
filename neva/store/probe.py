"""Asks a store, before a job relies on it, whether it can decide a race.

Every commit is one conditional PUT. Some S3 look-alikes ignore If-None-Match, some look first and
write then, so that of writers at the same time several win; on those two workers could both believe
they committed. Such a store is refused, with the probe named.
"""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor

import structlog

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store.base import AlreadyExists, Store, StoreDenied, StoreError, put_if_absent_or_same

PROBE_PREFIX = ".neva-probe/"
_NUM_RACERS = 8
_NUM_RACES = 3

_log = structlog.get_logger(__name__)


def probe_conditional_put(store: Store) -> None:
    """Check that the store is writable, and that a conditional put has exactly one winner.

    Writes small objects under `.neva-probe/`: one that a second put must not replace, then some
    that several puts race for. Deletes them.

    Raises:
        ConfigError: reason `UNSUPPORTED_STORE` when conditional puts can't be trusted.
        StoreDenied, BucketNotFound, StoreUnavailable, StoreError: it can't be written at all.
    """
    name = f"{PROBE_PREFIX}{secrets.token_hex(8)}"
    tried: list[str] = []
    try:
        _first_put(store, name, tried)
        problem = _second_put(store, name)
        for number in range(_NUM_RACES):
            if problem is None:
                tried.append(f"{name}-{number}")
                problem = _race(store, tried[-1])
    except _Refused as error:
        problem = error.message
    finally:
        for key in tried:
            _clean_up(store, key)
    if problem is not None:
        raise _refusal(store, name, problem)


class _Refused(ConfigError):
    """The store knows no conditional PUT, and says so."""


def _first_put(store: Store, key: str, tried: list[str]) -> None:
    """Write the object; note in `tried` that it may be there, whatever is raised."""
    try:
        put_if_absent_or_same(store, key, _first(key))
    except StoreDenied as error:
        raise StoreDenied(_unwritable(store, error)) from error
    except StoreError as error:
        tried.append(key)
        if error.reason is Reason.UNSUPPORTED_STORE:
            raise _Refused(error.message) from error
        raise type(error)(_unwritable(store, error)) from error
    tried.append(key)


def _first(key: str) -> bytes:
    return b"first " + key.encode()


def _unwritable(store: Store, error: StoreError) -> str:
    return f"{store.base_uri} can't be written: {error.message}"


def _second_put(store: Store, key: str) -> str | None:
    """What is wrong with the store's answer to another put of the same object, or None."""
    first, second = _first(key), b"second " + key.encode()
    try:
        store.put(key, second, if_absent=True)
    except AlreadyExists:
        if store.get(key) != first:
            return "a conditional PUT that was refused changed the object all the same"
        return None
    except StoreError as error:
        if error.retryable or isinstance(error, StoreDenied):
            raise
        return f"it answers a conditional PUT that must lose in its own way: {error.message}"
    return "a second PUT with If-None-Match: * replaced the first instead of failing"


def _race(store: Store, key: str) -> str | None:
    """What is wrong with the outcome of several puts at once, or None."""
    start = threading.Barrier(_NUM_RACERS)

    def wins(number: int) -> bool:
        start.wait()
        try:
            put_if_absent_or_same(store, key, b"%d " % number + key.encode())
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(_NUM_RACERS) as pool:
        num_winners = sum(pool.map(wins, range(_NUM_RACERS)))
    if num_winners == 1:
        return None
    return f"of {_NUM_RACERS} conditional PUTs at the same time {num_winners} won instead of one"


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
