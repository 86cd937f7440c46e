"""Object storage: `open_store` turns a URI or a local path into a `Store`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from neva.errors import ConfigError
from neva.store.base import (
    AlreadyExists,
    BucketNotFound,
    InvalidKey,
    NotFound,
    ObjectInfo,
    Store,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Writer,
    put_if_absent_or_same,
)
from neva.store.file import FileStore
from neva.store.probe import probe_conditional_put

__all__ = [
    "AlreadyExists",
    "BucketNotFound",
    "InvalidKey",
    "NotFound",
    "ObjectInfo",
    "Store",
    "StoreDenied",
    "StoreError",
    "StoreUnavailable",
    "Writer",
    "open_object",
    "open_store",
    "probe_conditional_put",
    "put_if_absent_or_same",
]


def open_store(uri: str, *, confined: bool = False) -> Store:
    """The store below `uri`. Nothing is contacted or created yet.

    Args:
        uri: `s3://bucket[/prefix]` (taken literally, as the AWS tools do), `file:///dir`
            (percent-decoded, RFC 8089), or a local path, absolute or relative to the working
            directory. A missing trailing slash is added.
        confined: a local store then refuses to read through symbolic links that lead out of it:
            for directories whose names come from records. Object stores have no links.

    Raises:
        ConfigError: no such kind of URI.
    """
    if uri.startswith("s3://"):
        # Imported here: boto3 costs a quarter of a second that a local run need not pay.
        from neva.store.s3 import S3Store

        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"{uri!r} names no bucket: write s3://bucket/prefix/")
        return S3Store(bucket, prefix)
    return FileStore(_local_path(uri), confined=confined)


def open_object(uri: str) -> tuple[Store, str]:
    """The store and key of a URI that names one object, such as a prompts file.

    The store's base is the directory the object lies in.

    Raises:
        ConfigError: the URI ends in a slash, or names only a bucket.
    """
    if uri.startswith("s3://"):
        base, _, key = uri.removeprefix("s3://").rpartition("/")
        if base and key:
            return open_store(f"s3://{base}/"), key
    else:
        path = _local_path(uri)
        if path.name and not uri.endswith("/"):
            return FileStore(path.parent), path.name
    raise ConfigError(f"{uri!r} names no file: a name must follow the last slash")


def _local_path(uri: str) -> Path:
    if uri.startswith("file:"):
        # No urlsplit: `#` and `?` are ordinary characters in file names.
        host, slash, path = uri.removeprefix("file:").removeprefix("//").partition("/")
        if host not in ("", "localhost") or not slash:
            raise ConfigError(f"{uri!r} names another host: write file:///absolute/path")
        return Path(unquote(f"/{path}"))
    scheme, separator, _ = uri.partition("://")
    if separator:
        raise ConfigError(f"{uri!r}: {scheme}:// is not supported, only s3://, file:// and paths")
    if not uri or "\0" in uri:
        raise ConfigError(f"{uri!r} is no path")
    return Path(uri).absolute()
