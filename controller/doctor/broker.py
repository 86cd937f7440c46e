"""The broker: it answers, takes what is written, and forgets nothing by itself."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import redis
from redis.sentinel import MasterNotFoundError

from controller.local.broker import EmbeddedBroker
from neva import queue
from neva.broker_url import parse_broker_url
from neva.errors import ConfigError
from neva.findings import Finding, errors_as_findings, ok, problem
from neva.settings import settings
from neva.spec import VideoNevaJob

_PART = "broker"
_SAFE_POLICY = "noeviction"
_TTL_S = 10


def examine(job: VideoNevaJob | None) -> Iterator[Finding]:
    """Writes one key, and deletes it."""
    del job
    found: list[Finding] = []
    url = settings().redis_url
    with errors_as_findings(_PART, found):
        if url is None:
            with EmbeddedBroker() as broker, queue.connect(broker.url) as client:
                found.append(_look(client, "embedded (NEVA_REDIS_URL is not set)"))
        else:
            found.append(_named(url))
    yield from found


def _named(url: str) -> Finding:
    """The broker that NEVA_REDIS_URL names. Never repeats the URL, which may hold a password."""
    sentinels = parse_broker_url(url)
    try:
        client = queue.connect(url)
    except ValueError as error:
        raise ConfigError(f"the broker's URL (NEVA_REDIS_URL): {error}") from error
    how = "" if sentinels is None else f", master {sentinels.master_name} by its Sentinels"
    try:
        with client:
            return _look(client, f"NEVA_REDIS_URL{how}")
    except redis.AuthenticationError as error:
        words = queue.error_words(error)
        advice = "write redis://USER:PASSWORD@HOST, a password alone as redis://:PASSWORD@HOST"
        return problem(_PART, f"it refuses user or password: {words}", advice)
    except redis.ReadOnlyError as error:
        advice = "name the master, or the Sentinels: redis+sentinel://HOST,HOST/NAME"
        return problem(_PART, f"it is a replica: {queue.error_words(error)}", advice)
    except redis.RedisError as error:
        # None of them has it, or there are servers where Sentinels should be.
        is_unknown = isinstance(error, MasterNotFoundError) or "'SENTINEL'" in str(error)
        if sentinels is not None and is_unknown:
            return _no_master(sentinels.master_name, error)
        return problem(_PART, f"it can't be used: {queue.error_words(error)}", _advice(error))


def _no_master(name: str, error: Exception) -> Finding:
    advice = "correct the Sentinels' hosts, their password or the master's name in the URL"
    return problem(
        _PART, f"no Sentinel names the master {name}: {queue.error_words(error)}", advice
    )


def _advice(error: Exception) -> str:
    words = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return "name its authority: rediss://…?ssl_ca_certs=/path/ca.crt"
    if "SSL" in words or "WRONG_VERSION" in words:
        return "rediss:// is with TLS, redis:// without: take what the server speaks"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return "start it, or correct host and port in NEVA_REDIS_URL"
    return "give its user the rights of the chart's README"


def _look(client: redis.Redis, where: str) -> Finding:
    """Raises RedisError."""
    client.ping()
    key = f"neva.doctor.{secrets.token_hex(8)}"
    client.set(key, b"", ex=_TTL_S)
    client.delete(key)
    try:
        info = client.info()
    except redis.exceptions.NoPermissionError:
        return ok(_PART, f"{where} answers; its user may not ask for version and eviction")
    name = "Valkey" if "valkey_version" in info else "Redis"
    version = info.get("valkey_version") or info.get("redis_version")
    policy = info.get("maxmemory_policy", _SAFE_POLICY)
    if policy != _SAFE_POLICY and info.get("maxmemory"):
        return problem(
            _PART,
            f"{where}: it drops keys when its {info['maxmemory']} bytes are full ({policy}), "
            "messages and leases, too",
            f"set maxmemory-policy {_SAFE_POLICY}",
        )
    return ok(_PART, f"{where}, {name} {version}, {policy}")
