"""An object of any size written to S3 as its content comes: multipart, nothing held but parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import structlog

from neva.errors import NevaError
from neva.store.base import NotFound
from neva.store.s3_errors import mapped_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_PART_BYTES = 8 << 20
_PARTS_PER_SIZE = 1000  # then parts grow: S3 takes 10,000 of them
_PARTS_IN_FLIGHT = 3

log = structlog.get_logger(__name__)


class PartUpload:
    """What is written is sent in parts; the object appears on `complete`, or never."""

    def __init__(self, client: S3Client, bucket: str, key: str, pool: ThreadPoolExecutor) -> None:
        self._client = client
        self._bucket, self._key = bucket, key
        self._uri = f"s3://{bucket}/{key}"
        self._pool = pool
        self._waiting = bytearray()
        self._upload_id: str | None = None
        self._in_flight: deque[Future[CompletedPartTypeDef]] = deque()
        self._sent: list[CompletedPartTypeDef] = []
        self._num_bytes = self._num_parts = 0

    @classmethod
    @contextmanager
    def open(cls, client: S3Client, bucket: str, key: str) -> Iterator[Self]:
        """Completed when the block ends well; on any error nothing is left of it."""
        with ThreadPoolExecutor(_PARTS_IN_FLIGHT, thread_name_prefix="s3-part") as pool:
            upload = cls(client, bucket, key, pool)
            try:
                yield upload
                upload._complete()
            except BaseException:
                upload._abort()
                raise

    def write(self, data: bytes) -> int:
        """Store errors of earlier parts come out here."""
        self._waiting += data
        self._num_bytes += len(data)
        if len(self._waiting) >= _PART_BYTES * (1 + self._num_parts // _PARTS_PER_SIZE):
            self._send_waiting()
        return len(data)

    def _send_waiting(self) -> None:
        if self._upload_id is None:
            with mapped_errors("write", self._uri):
                answer = self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)
            self._upload_id = answer["UploadId"]
        if len(self._in_flight) == _PARTS_IN_FLIGHT:
            self._sent.append(self._in_flight.popleft().result())
        self._num_parts += 1
        part = self._pool.submit(self._send, self._upload_id, self._num_parts, self._waiting)
        self._in_flight.append(part)
        self._waiting = bytearray()

    def _send(self, upload_id: str, number: int, data: bytearray) -> CompletedPartTypeDef:
        with mapped_errors("write", self._uri):
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=upload_id,
                PartNumber=number,
                Body=bytes(data),
            )
        return {"ETag": answer["ETag"], "PartNumber": number}

    def _complete(self) -> None:
        if self._upload_id is None:
            with mapped_errors("write", self._uri):
                self._client.put_object(
                    Bucket=self._bucket, Key=self._key, Body=bytes(self._waiting)
                )
            return
        if self._waiting:
            self._send_waiting()
        self._sent += [part.result() for part in self._in_flight]
        try:
            with mapped_errors("write", self._uri):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload_id,
                    MultipartUpload={"Parts": self._sent},
                )
        except NotFound:
            # An earlier try of this very call did it, and its answer was lost.
            if not self._is_there():
                raise

    def _is_there(self) -> bool:
        with mapped_errors("read", self._uri):
            answer = self._client.head_object(Bucket=self._bucket, Key=self._key)
        return answer["ContentLength"] == self._num_bytes

    def _abort(self) -> None:
        if self._upload_id is None:
            return
        for part in self._in_flight:
            part.cancel()
        for part in self._in_flight:
            if not part.cancelled():
                part.exception()  # a part that arrives after the abort would stay, and cost
        try:
            with mapped_errors("abort the upload of", self._uri):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )
        except NotFound:
            return
        except NevaError as error:
            log.warning("upload left behind", uri=self._uri, why=error.message)
