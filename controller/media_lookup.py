"""Finds out which media don't exist."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from neva.errors import ConfigError, RowError
from neva.media_store import MediaStore
from neva.reasons import Reason
from neva.store import BucketNotFound, StoreError

_ASKED_AT_ONCE = 4096  # names, which bounds what waits for the threads


def missing_media(media: MediaStore, names: Sequence[str], lookups: int) -> dict[str, RowError]:
    """Why each of the media that can't be used can't be.

    The store vouches for most of them at once; only what it does not vouch for is asked one by one.

    Args:
        lookups: media asked for at the same time.

    Raises:
        ConfigError: there is no such bucket.
        StoreError: the store can't be asked now.
    """
    problems: dict[str, RowError] = {}
    try:
        present = media.present(names)
    except BucketNotFound as error:
        raise ConfigError(error.message, reason=error.reason) from error
    except StoreError as error:
        if error.retryable:
            raise
        present = [False] * len(names)  # the right to list is not needed to look one up
    unsure = [name for name, is_there in zip(names, present, strict=True) if not is_there]
    with ThreadPoolExecutor(lookups, thread_name_prefix="media-lookup") as pool:
        for start in range(0, len(unsure), _ASKED_AT_ONCE):
            some = unsure[start : start + _ASKED_AT_ONCE]
            found = pool.map(lambda name: media_problem(media, name), some)
            problems.update(
                (name, error) for name, error in zip(some, found, strict=True) if error is not None
            )
    return problems


def media_problem(media: MediaStore, name: str) -> RowError | None:
    """Why one media can't be used; store errors that may pass go through."""
    try:
        if media.head(name) is not None:
            return None
    except BucketNotFound as error:
        raise ConfigError(error.message, reason=error.reason) from error
    except StoreError as error:
        if error.retryable:
            raise
        return RowError(error.message, reason=error.reason)
    return RowError(f"{media.uri_of(name)} does not exist", reason=Reason.MEDIA_NOT_FOUND)
