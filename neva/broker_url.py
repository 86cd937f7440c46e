"""A broker's URL, as NEVA_REDIS_URL says it, in redis-py's words and in Celery's.

    redis://[user:password@]host[:6379][/db]      one server; rediss:// with TLS
    unix:///run/valkey.sock                       one server on this machine
    redis+sentinel://[user:password@]host[:26379][,host…]/name[/db]
                                                  the master called `name` that Sentinels watch;
                                                  rediss+sentinel:// with TLS to all of them

User and password are the server's. Where the Sentinels ask for one, too, it is in the query:
`?sentinel_username=…&sentinel_password=…`. With TLS, `ssl_cert_reqs`, `ssl_ca_certs`,
`ssl_certfile`, `ssl_keyfile` and `ssl_check_hostname` are as with rediss://.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from neva.errors import ConfigError

_ONE_SERVER = ("redis", "rediss", "unix")
_SENTINEL = ("redis+sentinel", "rediss+sentinel")
_SENTINEL_PORT = 26379
_UNREADABLE = "host or port can't be read; are / # ? @ in user and password percent-encoded?"
_TLS_KEYS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname")


@dataclass(frozen=True, slots=True)
class SentinelUrl:
    """A master that Sentinels name.

    Attributes:
        hosts: the Sentinels' names and ports.
        master_name: what the Sentinels call the master.
        tls: redis-py's `ssl_` arguments; None without TLS.
    """

    hosts: tuple[tuple[str, int], ...]
    master_name: str
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: dict[str, Any] | None = None

    @property
    def credentials(self) -> dict[str, str]:
        """The server's, as redis-py's arguments."""
        return _given(username=self.username, password=self.password)

    @property
    def sentinel_credentials(self) -> dict[str, str]:
        return _given(username=self.sentinel_username, password=self.sentinel_password)

    @property
    def celery_url(self) -> str:
        """kombu's spelling: each Sentinel a URL with the server's user, password and db.

        kombu takes what follows from the one it happens to use.
        """
        user = ""
        if self.password is not None:
            user = f"{quote(self.username or '', safe='')}:{quote(self.password, safe='')}@"
        hosts = (
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return ";".join(f"sentinel://{user}{host}/{self.db}" for host in hosts)


def parse_broker_url(url: str) -> SentinelUrl | None:
    """What a Sentinel URL says; None for the URL of one server, which redis-py and kombu read.

    Raises:
        ConfigError: no such form. It never repeats the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in _ONE_SERVER:
            _ = parts.port  # redis-py would repeat what it can't read
            return None
    except ValueError:
        raise _wrong(_UNREADABLE) from None
    if parts.scheme not in _SENTINEL:
        known = ", ".join(f"{scheme}://" for scheme in (*_ONE_SERVER, *_SENTINEL))
        raise _wrong(f"it must begin with one of {known}")
    username, password, hosts = _authority(parts.netloc)
    master_name, db = _path(parts.path)
    query = _query(parts)
    with_tls = parts.scheme == "rediss+sentinel"
    tls = {key: value for key, value in query.items() if key in _TLS_KEYS}
    if tls and not with_tls:
        raise _wrong(f"{', '.join(sorted(tls))}: only with rediss+sentinel://")
    return SentinelUrl(
        hosts,
        master_name,
        db,
        username,
        password,
        query.get("sentinel_username"),
        query.get("sentinel_password"),
        _tls_arguments(tls) if with_tls else None,
    )


def _authority(netloc: str) -> tuple[str | None, str | None, tuple[tuple[str, int], ...]]:
    """User, password and Sentinels of `user:password@host:port,host`."""
    user_part, at, host_part = netloc.rpartition("@")
    username, colon, password = user_part.partition(":")
    if at and not colon:
        raise _wrong("a user without a password; a password alone is written :password@")
    hosts = tuple(_host(host) for host in host_part.split(","))
    return unquote(username) or None, unquote(password) or None, hosts


def _host(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _wrong(_UNREADABLE) from None
    if not host:
        raise _wrong("a Sentinel without a name")
    return host, port or _SENTINEL_PORT


def _path(path: str) -> tuple[str, int]:
    """The master's name and the number of the database of `/name/db`."""
    name, _, db = path.removeprefix("/").partition("/")
    if not name:
        raise _wrong("the master's name is missing: redis+sentinel://host:26379/NAME")
    if db and not db.isdecimal():
        raise _wrong(f"the database must be a number, not {db!r}")
    return unquote(name), int(db or 0)


def _query(parts: SplitResult) -> dict[str, str]:
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = query.keys() - {"sentinel_username", "sentinel_password", *_TLS_KEYS}
    if unknown:
        raise _wrong(f"not understood: {', '.join(sorted(unknown))}")
    if "sentinel_username" in query and "sentinel_password" not in query:
        raise _wrong("sentinel_username needs sentinel_password")
    return query


def _tls_arguments(query: dict[str, str]) -> dict[str, Any]:
    arguments: dict[str, Any] = {"ssl_cert_reqs": "required", **query}
    if arguments["ssl_cert_reqs"] not in ("none", "optional", "required"):
        raise _wrong("ssl_cert_reqs must be none, optional or required")
    if (check := query.get("ssl_check_hostname")) is not None:
        if check not in ("true", "false"):
            raise _wrong("ssl_check_hostname must be true or false")
        arguments["ssl_check_hostname"] = check == "true"
    return arguments


def _given(**values: str | None) -> dict[str, str]:
    return {key: value for key, value in values.items() if value is not None}


def _wrong(why: str) -> ConfigError:
    return ConfigError(f"the broker's URL (NEVA_REDIS_URL): {why}")
