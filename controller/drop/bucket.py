"""A prefix of an S3 bucket as drop folders use it: cheap listings, moves that lose nothing, tags.

Stores differ in what they make of a condition on a delete, so it is checked twice: by looking, and
by If-Match where the store knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from controller.drop.scan import Listed
from neva.errors import ConfigError
from neva.reasons import Reason
from neva.store.base import NotFound, StoreError, is_valid_key
from neva.store.s3_client import current_environment, shared_client
from neva.store.s3_errors import mapped_errors, status_and_code

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MAX_COPY_BYTES = 5 << 30  # of one CopyObject
_NOT_IMPLEMENTED = 501
_CONDITION_FAILED = 412


class Fate(StrEnum):
    """What became of an input."""

    DONE = "done"
    CHANGED = "changed"  # another object lies there now: it is a drop of its own
    GONE = "gone"  # moved before, or taken away


class Bucket:
    """Objects below `uri`; keys are relative to it. Methods raise StoreError.

    Raises:
        ConfigError: it is no s3:// URI.
    """

    def __init__(self, uri: str) -> None:
        if not uri.startswith("s3://"):
            raise ConfigError(f"{uri}: only prefixes of buckets (s3://…) can be watched")
        self.uri = uri
        self.name, _, self.prefix = uri.removeprefix("s3://").partition("/")
        self._environment = current_environment()

    # Listings

    def list(self, prefix: str = "", *, skip: str | None = None) -> Iterator[Listed]:
        """Every object whose key starts with `prefix`, a page of 1,000 per request.

        Args:
            skip: prefix, with its slash, whose objects are passed over without being listed.
        """
        after = ""
        while True:
            with mapped_errors("list", self.uri + prefix):
                page = self._client.list_objects_v2(
                    Bucket=self.name, Prefix=self.prefix + prefix, StartAfter=after
                )
            store_s = _date_s(page)
            key = ""
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self.prefix)
                if is_valid_key(key):
                    etag, modified_s = item["ETag"].strip('"'), item["LastModified"].timestamp()
                    yield Listed(key, etag, item["Size"], modified_s, store_s)
            if not page.get("IsTruncated") or not key:
                return
            if skip is not None and key.startswith(skip):
                # '0' follows '/': no drop can have this name.
                key = f"{skip[:-1]}0"
            after = self.prefix + key

    def list_drops(self, keys: Iterable[str]) -> Iterator[Listed]:
        """The objects of the drops that have these keys: files, and whole folders."""
        named = set(keys)
        for folder in sorted({f"{key.partition('/')[0]}/" for key in named if "/" in key}):
            yield from self.list(folder)
        for key in sorted(key for key in named if "/" not in key):
            yield from (listed for listed in self.list(key) if listed.key == key)

    def folders(self) -> set[str]:
        """Names of the folders directly below."""
        found: set[str] = set()
        with mapped_errors("list", self.uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("CommonPrefixes", ()):
                    found.add(item["Prefix"].removeprefix(self.prefix).rstrip("/"))
        return found

    # Inputs

    def move(self, listed: Listed, target: str) -> Fate:
        """Copy the object to `target`, then delete it, if it is still the same."""
        copied = self._copy(listed, target)
        return copied if copied is not Fate.DONE else self._delete(listed)

    def tag(self, listed: Listed, name: str, value: str) -> Fate:
        """Add a tag to the object, if it is still the same; its other tags stay."""
        uri, full_key = self.uri + listed.key, self.prefix + listed.key
        fate = self.look(listed)
        if fate is not Fate.DONE:
            return fate
        with mapped_errors("tag", uri):
            answer = self._client.get_object_tagging(Bucket=self.name, Key=full_key)
            tags = {item["Key"]: item["Value"] for item in answer["TagSet"]}
            if tags.get(name) == value:
                return Fate.DONE
            tags[name] = value
            tag_set: Any = [{"Key": key, "Value": text} for key, text in tags.items()]
            self._client.put_object_tagging(
                Bucket=self.name, Key=full_key, Tagging={"TagSet": tag_set}
            )
        return Fate.DONE

    def look(self, listed: Listed) -> Fate:
        """Whether the object is still the same (DONE)."""
        try:
            with mapped_errors("read", self.uri + listed.key):
                answer = self._client.head_object(Bucket=self.name, Key=self.prefix + listed.key)
        except NotFound:
            return Fate.GONE
        return Fate.DONE if answer["ETag"].strip('"') == listed.etag else Fate.CHANGED

    def _copy(self, listed: Listed, target: str) -> Fate:
        source: Any = {"Bucket": self.name, "Key": self.prefix + listed.key}
        condition: Any = {"CopySourceIfMatch": listed.etag}
        try:
            with mapped_errors("move", self.uri + listed.key):
                if listed.size_bytes > _MAX_COPY_BYTES:
                    self._client.copy(source, self.name, self.prefix + target, ExtraArgs=condition)
                else:
                    self._client.copy_object(
                        Bucket=self.name, Key=self.prefix + target, CopySource=source, **condition
                    )
        except NotFound:
            return Fate.GONE
        except StoreError as error:
            if _status_of(error) == _CONDITION_FAILED:
                return Fate.CHANGED
            raise
        return Fate.DONE

    def _delete(self, listed: Listed) -> Fate:
        fate = self.look(listed)
        if fate is not Fate.DONE:
            return fate
        full_key = self.prefix + listed.key
        try:
            with mapped_errors("delete", self.uri + listed.key):
                try:
                    self._client.delete_object(
                        Bucket=self.name, Key=full_key, IfMatch=f'"{listed.etag}"'
                    )
                except ClientError as error:
                    if status_and_code(error)[0] != _NOT_IMPLEMENTED:
                        raise
                    # It was the same a moment ago, and this store can't be asked for more.
                    self._client.delete_object(Bucket=self.name, Key=full_key)
        except NotFound:
            return Fate.GONE
        except StoreError as error:
            if _status_of(error) == _CONDITION_FAILED:
                return Fate.CHANGED
            raise
        return Fate.DONE

    @property
    def _client(self) -> S3Client:
        return shared_client(self._environment)


def _status_of(error: StoreError) -> int:
    cause = error.__cause__
    return status_and_code(cause)[0] if isinstance(cause, ClientError) else 0


def _date_s(page: Any) -> float | None:
    """The store's clock, from the answer's Date."""
    text = page["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None


def check_watchable(spec: dict[str, Any]) -> tuple[Bucket, Bucket]:
    """The watched prefix and the one below which jobs write.

    Raises:
        ConfigError: one of them is no bucket's, or they lie in each other.
    """
    watched, written = Bucket(spec["uri"]), Bucket(spec["outputBase"])
    if written.uri.startswith(watched.uri):
        raise ConfigError(
            "spec.outputBase must not lie below spec.uri, which is watched",
            reason=Reason.INVALID_CONFIG,
        )
    return watched, written
