"""A read stream over an S3 object that survives a connection broken in the middle of the body.

boto3 retries a request only until its answer begins. Here the rest is asked for again with a
Range, and accepted only if its ETag says that it belongs to the same version. (The answer's ETag
is compared instead of sending If-Match: some servers want that header without quotes, some refuse
it, all send the ETag.)
"""

from __future__ import annotations

import io
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from neva.reasons import Reason
from neva.store.base import StoreError, StoreUnavailable
from neva.store.s3_errors import mapped_errors, status_and_code

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_MAX_BREAKS_WITHOUT_PROGRESS = 5
_FIRST_PAUSE_S = 0.1
_READALL_CHUNK_BYTES = 1 << 20
_BROKEN = (HTTPClientError, IncompleteReadError, HTTPError, OSError)


@dataclass(frozen=True, slots=True)
class S3Object:
    """Which object to read, and through which client."""

    client: S3Client
    bucket: str
    key: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class ResumingReader(io.RawIOBase):
    """Unbuffered bytes from `offset` to `offset + num_bytes` (or the end) of one version.

    The first request is made at construction, so a missing object is known at once. A checksum
    that the store keeps is verified at the end of a whole read that was never broken off.

    Raises (construction and reads): StoreError.
    """

    def __init__(self, source: S3Object, offset: int, num_bytes: int | None) -> None:
        self._source = source
        self._position = offset
        self._body: StreamingBody | None = None
        # A checksum belongs to the whole object, so only one unbroken answer can be compared.
        self._has_checksum = offset == 0 and num_bytes is None
        wanted_end = None if num_bytes is None else offset + num_bytes
        answer = self._request(wanted_end)
        if answer is None:  # past the end of the object
            self._end, self._etag = offset, ""
            return
        self._body = answer["Body"]
        self._etag = answer["ETag"]
        self._end = offset + answer["ContentLength"]
        if wanted_end is not None:
            self._end = min(self._end, wanted_end)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._position >= self._end:
            self._verify_checksum()
            return 0
        num_breaks = 0
        while True:
            try:
                if self._body is None:
                    self._body = self._resume()
                data = self._body.read(min(len(buffer), self._end - self._position))
                if not data:
                    raise ConnectionResetError(f"{self._end - self._position} bytes are missing")
            except _BROKEN as error:
                num_breaks += 1
                self._drop_body()
                if num_breaks > _MAX_BREAKS_WITHOUT_PROGRESS:
                    raise StoreUnavailable(
                        f"{self._source.uri} broke off {num_breaks} times at byte "
                        f"{self._position}: {' '.join(str(error).split())}"
                    ) from error
                time.sleep(random.uniform(0.5, 1) * _FIRST_PAUSE_S * 2 ** (num_breaks - 1))
            else:
                buffer[: len(data)] = data
                self._position += len(data)
                return len(data)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(_READALL_CHUNK_BYTES) or b"", b""))

    def close(self) -> None:
        self._drop_body()
        super().close()

    def _request(self, end: int | None) -> GetObjectOutputTypeDef | None:
        """The answer from the current position on; None if the object ends before it."""
        source = self._source
        with mapped_errors("read", source.uri):
            if not self._position and end is None:
                return source.client.get_object(Bucket=source.bucket, Key=source.key)
            last = "" if end is None else max(end - 1, self._position)
            try:
                answer = source.client.get_object(
                    Bucket=source.bucket, Key=source.key, Range=f"bytes={self._position}-{last}"
                )
            except ClientError as error:
                if status_and_code(error)[0] == 416:
                    return None
                raise
        if self._position and "ContentRange" not in answer:
            answer["Body"].close()
            raise StoreError(
                f"the store of {source.uri} ignores Range requests",
                reason=Reason.UNSUPPORTED_STORE,
            )
        return answer

    def _resume(self) -> StreamingBody:
        self._has_checksum = False
        answer = self._request(self._end)
        if answer is not None and answer["ETag"] == self._etag:
            return answer["Body"]
        if answer is not None:
            answer["Body"].close()
        raise StoreUnavailable(f"{self._source.uri} was replaced while it was read")

    def _verify_checksum(self) -> None:
        if self._body is not None and self._has_checksum:
            with mapped_errors("read", self._source.uri):
                self._body.read(1)

    def _drop_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
