"""What every role expects of an object store, and the errors it may meet.

A `Store` is bound to one base URI (`s3://bucket/prefix/` or `file:///dir/`) and speaks in keys
relative to it. The ledger relies on three properties, the same for every implementation:

* an object appears whole or not at all, and a reader sees one version of it;
* `put(..., if_absent=True)` has exactly one winner, however many race, on however many machines;
* a reader sees an object as soon as its `put` returned.

`neva.store.probe` checks the second one before a job starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from neva.errors import NevaError
from neva.reasons import Reason

MAX_KEY_BYTES = 1024
"""S3's limit for the whole key, in UTF-8 bytes."""

HIDDEN_NAME_PREFIX = ".neva-tmp-"
"""Names of half-written local files start so; no key may hold one, no listing shows one."""

_CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


class StoreError(NevaError):
    """The object store did not do what it was asked to."""

    reason = Reason.STORE_UNAVAILABLE


class AlreadyExists(StoreError):
    """A conditional put lost: an object lies there."""

    reason = Reason.OBJECT_EXISTS


class NotFound(StoreError):
    """No object has this key."""

    reason = Reason.OBJECT_NOT_FOUND


class BucketNotFound(StoreError):
    """The bucket itself is missing. No `NotFound`: it never means "this key is absent"."""

    reason = Reason.OBJECT_NOT_FOUND


class StoreUnavailable(StoreError):
    """The store can't be reached, is overloaded or failed inside: later it may work."""

    retryable = True


class StoreDenied(StoreError):
    """No credentials, wrong ones, or ones without the right to do this."""

    reason = Reason.STORE_DENIED


class InvalidKey(StoreError):
    """The key would escape the base, or is no key that every store can hold."""

    reason = Reason.INVALID_CONFIG


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a listing or `head` says about an object.

    Attributes:
        key: relative to the store's base.
        size_bytes: length of the content.
        modified_s: when it was written, in seconds since the epoch by the store's clock, for
            people; None where a store does not tell. Nothing is decided by it.
    """

    key: str
    size_bytes: int
    _etag: str | Callable[[], str] = field(repr=False, compare=False)
    modified_s: float | None = field(default=None, repr=False, compare=False)

    @property
    def etag(self) -> str:
        """Changes when the content does; equal to what `put` returned for this content.

        S3 sends it with the listing. A `file://` store hashes the content (SHA-256) *here*, on
        every access, so that listing a directory never reads it: a copied or restored run keeps
        its etags, which no cheap mark (time, inode) would. It raises `NotFound` there when the
        file is gone by now.
        """
        return self._etag if isinstance(self._etag, str) else self._etag()


class Writer(Protocol):
    """Takes an object's content."""

    def write(self, data: bytes, /) -> int: ...


class Store(Protocol):
    """Objects below one base URI. Keys are relative, `/`-separated, and can't escape the base.

    All methods raise `StoreError`s. An object is safe to use from several threads, and after
    a fork in the child too.
    """

    @property
    def base_uri(self) -> str:
        """The base, with a trailing slash."""
        ...

    def get(self, key: str) -> bytes:
        """The whole content. Raises `NotFound`."""
        ...

    def get_or_none(self, key: str) -> bytes | None:
        """The whole content, or None if no object has this key."""
        ...

    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """A buffered stream over the content, or over `num_bytes` of it from `offset` on.

        Memory is constant. A range past the end gives what there is, like reading a file.
        Raises `NotFound` on entering.
        """
        ...

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        """Write the whole object at once; returns its etag.

        Raises `AlreadyExists` when `if_absent` and there is one already (also when an earlier
        try of this very call put it there and its answer was lost: `put_if_absent_or_same`).
        """
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Upload a local file of any size in constant memory; it appears at once, whole."""
        ...

    def open_write(self, key: str) -> AbstractContextManager[Writer]:
        """Write an object of any size as its content comes, in constant memory.

        It appears at once, whole, when the block ends; nothing is left when the block raises.
        """
        ...

    def present(self, keys: Sequence[str]) -> list[bool]:
        """For each key whether an object surely has it; of many keys, quicker than `head`s.

        False only means that `head` must be asked.
        """
        ...

    def head(self, key: str) -> ObjectInfo | None:
        """Size and etag, or None if no object has this key."""
        ...

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with `prefix`, in the byte order of their keys.

        Paged: memory does not grow with the number of objects. `prefix` need not end at a slash.
        Only keys greater than `start_after` are listed. What is no valid key (empty or `..`
        segments, folder markers) can't be read either and is left out.
        """
        ...

    def download(self, key: str, path: Path) -> None:
        """Write the object to a local file, which appears whole. Raises `NotFound`."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the content lies on this machine already, or None: download it then."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; no error if there is none."""
        ...

    def tidy(self) -> None:
        """Remove what writers that were killed left half-written. No object is touched.

        In a bucket nothing is seen of that; parts of large uploads that were never completed are
        removed by the bucket's own lifecycle rule, if it has one.
        """
        ...

    def uri_of(self, key: str) -> str:
        """The object's full URI, which `open_object` reads back."""
        ...

    def now_s(self) -> float | None:
        """The clock that `ObjectInfo.modified_s` is of; None where the store does not tell."""
        ...


def check_key(key: str) -> str:
    """Return `key` unchanged if every store can hold it, inside its base.

    Raises:
        InvalidKey: empty, absolute, too long, with an empty, `.` or `..` segment, with control
            characters, lone surrogates, or with the name of a temporary file.
    """
    problem = _key_problem(key)
    if problem is not None:
        raise InvalidKey(f"invalid object key {key!r}: {problem}")
    return key


def is_valid_key(key: str) -> bool:
    """Whether `check_key` accepts it."""
    return _key_problem(key) is None


def check_prefix(prefix: str) -> str:
    """Like `check_key` for a listing's prefix, which may be empty, cut short or end in a slash."""
    whole_segments = prefix.rpartition("/")[0]
    problem = _key_problem(whole_segments) if "/" in prefix else None
    if problem is None and _CONTROL_CHARACTERS.search(prefix):
        problem = "it holds a control character"
    if problem is not None:
        raise InvalidKey(f"invalid listing prefix {prefix!r}: {problem}")
    return prefix


def _key_problem(key: str) -> str | None:
    if not key:
        return "it is empty"
    try:
        num_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode text"
    if num_bytes > MAX_KEY_BYTES:
        return f"it has {num_bytes} bytes, the limit is {MAX_KEY_BYTES}"
    if _CONTROL_CHARACTERS.search(key):
        return "it holds a control character"
    for segment in key.split("/"):
        if segment in ("", ".", ".."):
            return f"a path segment is {segment!r}"
        if segment.startswith(HIDDEN_NAME_PREFIX):
            return f"names that start with {HIDDEN_NAME_PREFIX} are temporary files"
    return None


def put_if_absent_or_same(store: Store, key: str, data: bytes) -> str:
    """A conditional put that recognises its own earlier success; returns the etag.

    A PUT can succeed and its answer be lost; the retry (inside the client, or by the caller)
    then loses against itself. So when an object lies there, it is read back: equal bytes are
    ours. `data` must therefore say who writes (attempt, owner), or a rival's equal bytes would
    count as a win too.

    Raises:
        AlreadyExists: somebody else's object lies there.
    """
    try:
        return store.put(key, data, if_absent=True)
    except AlreadyExists:
        found = store.get_or_none(key)
        if found is None:
            # Deleted in between, or not yet visible: neither is a win, both may pass.
            raise StoreUnavailable(
                f"{store.uri_of(key)} was refused as existing but can't be read back"
            ) from None
        if found != data:
            raise
    info = store.head(key)
    if info is None:
        raise StoreUnavailable(f"{store.uri_of(key)} vanished while it was read back")
    return info.etag
