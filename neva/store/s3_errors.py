"""Turns what boto3 raises into one-line `StoreError`s that name the object and the way out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from s3transfer.exceptions import RetriesExceededError

from neva.metrics import of_pods
from neva.metrics.counting import count
from neva.reasons import Reason
from neva.store.base import BucketNotFound, NotFound, StoreDenied, StoreError, StoreUnavailable

_CREDENTIALS_WAY_OUT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE, or give the pod's service "
    "account a role)"
)
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_OVERLOADED = {
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeTooSkewed",
    "OperationAborted",
    "ConditionalRequestConflict",
}
_CONNECTION_TROUBLE = (
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    RetriesExceededError,
)


@contextmanager
def mapped_errors(verb: str, uri: str) -> Iterator[None]:
    """Raise a `StoreError` for whatever boto3 raises in the block; `verb` as in "can't read"."""
    try:
        yield
    except ClientError as error:
        mapped = _from_answer(error, verb, uri)
        _count(verb, mapped)
        raise mapped from error
    except (BotoCoreError, Boto3Error, RetriesExceededError) as error:
        mapped = _from_client(error, verb, uri)
        _count(verb, mapped)
        raise mapped from error


def _count(verb: str, error: StoreError) -> None:
    count(of_pods.STORE_ERRORS, verb.partition(" ")[0], error.reason)


def status_and_code(error: ClientError) -> tuple[int, str]:
    """HTTP status (0 if there was no answer) and S3's own code."""
    metadata = error.response.get("ResponseMetadata", {})
    return metadata.get("HTTPStatusCode", 0), error.response.get("Error", {}).get("Code", "")


def _from_answer(error: ClientError, verb: str, uri: str) -> StoreError:
    status, code = status_and_code(error)
    words = _one_line(error.response.get("Error", {}).get("Message") or code or str(error))
    if code == "NoSuchBucket":
        bucket = uri.removeprefix("s3://").partition("/")[0]
        return BucketNotFound(f"there is no bucket {bucket!r} (for {uri}): create it or correct it")
    if status == 404:
        return NotFound(f"no such object: {uri}")
    if code in _BAD_CREDENTIALS:
        return StoreDenied(f"can't {verb} {uri}: {words} ({code}); {_CREDENTIALS_WAY_OUT}")
    if status in (401, 403) and code not in _OVERLOADED:
        return StoreDenied(
            f"can't {verb} {uri}: access denied ({code}). The credentials need s3:GetObject, "
            "s3:PutObject and s3:ListBucket (without the last, a missing object is denied too)"
        )
    if (status >= 500 and status != 501) or status == 429 or code in _OVERLOADED:
        return StoreUnavailable(f"can't {verb} {uri} now: {words} ({status} {code})")
    if status == 501 or code == "NotImplemented":
        return StoreError(
            f"can't {verb} {uri}: the store does not implement it ({words})",
            reason=Reason.UNSUPPORTED_STORE,
        )
    if status == 301 or code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        return StoreError(
            f"can't {verb} {uri}: the bucket is in another region; set AWS_REGION ({words})",
            reason=Reason.INVALID_CONFIG,
        )
    if code == "InvalidObjectState":
        return StoreError(
            f"can't {verb} {uri}: it is archived; restore it first ({words})",
            reason=Reason.INVALID_CONFIG,
        )
    return StoreError(f"can't {verb} {uri}: {words} ({status} {code})")


def _from_client(error: Exception, verb: str, uri: str) -> StoreError:
    words = _one_line(str(error))
    if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError):
        return StoreDenied(f"no credentials for {uri}: {_CREDENTIALS_WAY_OUT} ({words})")
    if isinstance(error, ProfileNotFound | SSOError):
        return StoreDenied(f"no credentials for {uri}: {words}")
    if isinstance(error, ParamValidationError | ValueError):
        return StoreError(f"can't {verb} {uri}: {words}", reason=Reason.INVALID_CONFIG)
    if isinstance(error, _CONNECTION_TROUBLE):
        return StoreUnavailable(f"can't {verb} {uri} now: {words}")
    return StoreError(f"can't {verb} {uri}: {words}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
