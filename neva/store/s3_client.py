"""The boto3 clients: one per process and environment, made again after a fork.

Everything is configured the standard way: credentials by boto3's chain, another endpoint by
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (or the profile).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3.session
import botocore
import botocore.session
from botocore.config import Config
from botocore.utils import determine_content_length

from neva.errors import ConfigError
from neva.metrics import of_pods
from neva.metrics.counting import count

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from botocore.config import _RetryDict
    from mypy_boto3_s3 import S3Client

_CONNECT_TIMEOUT_S = 5
_READ_TIMEOUT_S = 30
_MAX_ATTEMPTS = 5  # unless AWS_MAX_ATTEMPTS says otherwise
_MAX_CONNECTIONS = 32
# Fixed: botocore puts its own together anew, twice a request, a tenth of what a request computes.
_USER_AGENT = f"neva-batch Botocore/{botocore.__version__}"
_SMALL_BODY_BYTES = 1 << 20
_AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")

Environment = tuple[tuple[str, str], ...]

_clients: dict[Environment, S3Client] = {}
_lock = threading.Lock()
_inherited: list[dict[Environment, S3Client]] = []


def current_environment() -> Environment:
    """The AWS_ variables, which decide endpoint and credentials: what a client is shared by."""
    return tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))


def shared_client(environment: Environment) -> S3Client:
    """This process's client for the environment, made on first use. Safe between threads."""
    with _lock:
        client = _clients.get(environment)
        if client is None:
            client = _clients[environment] = _new_client()
        return client


def _new_client() -> S3Client:
    core = botocore.session.get_session()
    session = boto3.session.Session(botocore_session=core)
    config = Config(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        retries=_retries(),
        max_pool_connections=_MAX_CONNECTIONS,
        tcp_keepalive=True,
        user_agent=_USER_AGENT,
    )
    # Of the session, so that its clients have it from their making on.
    events = core.get_component("event_emitter")
    events.register("before-send.s3", _count_request)
    events.register_last("before-call.s3", _send_small_body_at_once)
    try:
        client: S3Client = session.client("s3", config=config)
    except ValueError as error:  # botocore's: AWS_ENDPOINT_URL without http://, say
        raise ConfigError(f"no client of S3 by the AWS_ variables: {error}") from error
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    chosen_style = core.get_scoped_config().get("s3", {}).get("addressing_style")
    if chosen_style is None and not host.endswith(_AWS_DOMAINS):
        # Other servers seldom have a DNS name per bucket.
        client = session.client("s3", config=config.merge(Config(s3={"addressing_style": "path"})))
    return client


def _count_request(request: AWSPreparedRequest, event_name: str, **_: object) -> None:
    """Count what goes out; an answer of our own instead would be a value here."""
    operation = event_name.rpartition(".")[2]
    count(of_pods.STORE_REQUESTS, operation)
    attempt = request.headers.get("amz-sdk-request", b"")
    text = attempt.decode() if isinstance(attempt, bytes) else str(attempt)
    if text and not text.startswith("attempt=1;"):
        count(of_pods.STORE_RETRIES, operation)


def _send_small_body_at_once(params: dict[str, Any], **_: object) -> None:
    """Spare a small PUT the question whether its body may come: that is a whole round trip.

    It is for bodies that are worth more than one. After a refusal a small one is sent again.
    """
    if "Expect" not in params["headers"]:
        return
    num_bytes = determine_content_length(params["body"])
    if num_bytes is not None and num_bytes <= _SMALL_BODY_BYTES:
        del params["headers"]["Expect"]


def _retries() -> _RetryDict:
    if "AWS_MAX_ATTEMPTS" in os.environ:
        return {"mode": "standard"}
    return {"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS}


def _forget_clients() -> None:
    """In a forked child: neither the parent's sockets nor its locks may be touched."""
    global _clients, _lock
    # Kept, not dropped: closing the pools could wait for a lock that was held while forking.
    _inherited.append(_clients)
    _clients = {}
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_clients)
