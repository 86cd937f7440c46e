"""The object store on S3 and whatever speaks its protocol, through boto3."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from neva.store.base import (
    AlreadyExists,
    BucketNotFound,
    NotFound,
    ObjectInfo,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    Writer,
    check_key,
    check_prefix,
    is_valid_key,
)
from neva.store.listing import present_by_listing
from neva.store.local import appearing_whole
from neva.store.s3_client import current_environment, shared_client
from neva.store.s3_errors import mapped_errors, status_and_code
from neva.store.s3_stream import ResumingReader, S3Object
from neva.store.s3_upload import PartUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2RequestPaginateTypeDef

_READ_BUFFER_BYTES = 256 << 10
_MAX_CONFLICTS = 8
_FIRST_PAUSE_S = 0.05
_MAX_UPLOADS = 3
_KEYS_PER_PAGE = 1000
# Fewer are asked for one by one, and at the same time, sooner than a page is listed.
_LIST_FROM_KEYS = 500
# Bounds the memory of one transfer: threads times boto3's part size of 8 MiB.
_TRANSFER = TransferConfig(max_concurrency=8)


class S3Store:
    """A `Store` over one prefix of one bucket.

    Args:
        bucket: name of the bucket.
        prefix: literal start of all keys; a missing trailing slash is added, "" is the bucket.
    """

    def __init__(self, bucket: str, prefix: str = "") -> None:
        self._bucket = bucket
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._environment = current_environment()
        self._bucket_is_known = False

    def __repr__(self) -> str:
        return f"S3Store({self.base_uri!r})"

    @property
    def base_uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def uri_of(self, key: str) -> str:
        return f"{self.base_uri}{check_key(key)}"

    def local_path(self, key: str) -> Path | None:
        check_key(key)
        return None

    def get(self, key: str) -> bytes:
        with self.open_read(key) as stream:
            return stream.read()

    def get_or_none(self, key: str) -> bytes | None:
        try:
            return self.get(key)
        except NotFound:
            return None

    @contextmanager
    def open_read(
        self, key: str, *, offset: int = 0, num_bytes: int | None = None
    ) -> Iterator[BinaryIO]:
        source = S3Object(self._client, self._bucket, self._key(key))
        with io.BufferedReader(
            ResumingReader(source, offset, num_bytes), _READ_BUFFER_BYTES
        ) as stream:
            yield cast(BinaryIO, stream)

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        full_key = self._key(key)
        with mapped_errors("write", self.uri_of(key)):
            if not if_absent:
                answer = self._client.put_object(Bucket=self._bucket, Key=full_key, Body=data)
                return answer["ETag"].strip('"')
            return self._put_if_absent(full_key, data)

    def put_file(self, key: str, path: Path) -> None:
        full_key = self._key(key)
        for _ in range(_MAX_UPLOADS):
            try:
                with path.open("rb") as source, mapped_errors("write", self.uri_of(key)):
                    self._client.upload_fileobj(source, self._bucket, full_key, Config=_TRANSFER)
            except NotFound:
                # The upload is gone: it was completed, and the answer got lost, or somebody
                # aborted it. Which of them can't be told, so all is sent again.
                continue
            return
        raise StoreUnavailable(f"can't write {self.uri_of(key)} now: the upload vanished again")

    @contextmanager
    def open_write(self, key: str) -> Iterator[Writer]:
        with PartUpload.open(self._client, self._bucket, self._key(key)) as upload:
            yield upload

    def present(self, keys: Sequence[str]) -> list[bool]:
        if len(keys) < _LIST_FROM_KEYS:
            return [False] * len(keys)
        return present_by_listing(self, keys)

    def head(self, key: str) -> ObjectInfo | None:
        full_key = self._key(key)
        try:
            with mapped_errors("read", self.uri_of(key)):
                answer = self._client.head_object(Bucket=self._bucket, Key=full_key)
        except NotFound:
            self._check_bucket()
            return None
        modified_s = answer["LastModified"].timestamp()
        return ObjectInfo(key, answer["ContentLength"], answer["ETag"].strip('"'), modified_s)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        check_prefix(prefix)
        with mapped_errors("list", f"{self.base_uri}{prefix}"):
            request: ListObjectsV2RequestPaginateTypeDef = {
                "Bucket": self._bucket,
                "Prefix": f"{self._prefix}{prefix}",
                "PaginationConfig": {"PageSize": _KEYS_PER_PAGE},
            }
            if start_after:
                request["StartAfter"] = f"{self._prefix}{start_after}"
            for page in self._client.get_paginator("list_objects_v2").paginate(**request):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self._prefix)
                    if is_valid_key(key):
                        etag, modified_s = item["ETag"].strip('"'), item["LastModified"].timestamp()
                        yield ObjectInfo(key, item["Size"], etag, modified_s)

    def download(self, key: str, path: Path) -> None:
        full_key = self._key(key)
        with appearing_whole(path) as target, mapped_errors("read", self.uri_of(key)):
            self._client.download_fileobj(self._bucket, full_key, target, Config=_TRANSFER)

    def delete(self, key: str) -> None:
        full_key = self._key(key)
        with mapped_errors("delete", self.uri_of(key)):
            self._client.delete_object(Bucket=self._bucket, Key=full_key)

    def now_s(self) -> float | None:
        """From the Date of an answer."""
        with mapped_errors("list", self.base_uri):
            answer = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1
            )
        date = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        try:
            return parsedate_to_datetime(date).timestamp() if date else None
        except ValueError:
            return None

    def tidy(self) -> None:
        """Nothing to do: a PUT that broke off leaves nothing."""

    @property
    def _client(self) -> S3Client:
        # Asked for each time: after a fork it is another one.
        return shared_client(self._environment)

    def _key(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _put_if_absent(self, full_key: str, data: bytes) -> str:
        uri = f"s3://{self._bucket}/{full_key}"
        for num_conflicts in range(_MAX_CONFLICTS):
            try:
                answer = self._client.put_object(
                    Bucket=self._bucket, Key=full_key, Body=data, IfNoneMatch="*"
                )
                return answer["ETag"].strip('"')
            except ClientError as error:
                status = status_and_code(error)[0]
                if status == 412:
                    raise AlreadyExists(f"{uri} exists already") from error
                # 409: a rival's put or delete is in flight and nobody has won yet.
                if status != 409:
                    raise
            time.sleep(random.uniform(0.5, 1) * _FIRST_PAUSE_S * 2**num_conflicts)
        raise StoreUnavailable(f"can't write {uri} now: {_MAX_CONFLICTS} conflicts in a row (409)")

    def _check_bucket(self) -> None:
        """A HEAD's 404 does not say whether the object or the bucket is missing: ask once."""
        if self._bucket_is_known:
            return
        try:
            with mapped_errors("read", self.base_uri):
                self._client.head_bucket(Bucket=self._bucket)
        except NotFound:
            raise BucketNotFound(
                f"there is no bucket {self._bucket!r}: create it or correct the URI"
            ) from None
        except StoreDenied:
            pass  # the right to ask is missing, and will be the next time: the object's 404 stands
        except StoreError:
            return
        self._bucket_is_known = True
