"""What NEVA_REDIS_URL may say."""

from __future__ import annotations

import pytest

from neva.broker_url import SentinelUrl, parse_broker_url
from neva.errors import ConfigError


@pytest.mark.parametrize("url", ["redis://h:6379/1", "rediss://u:p@h", "unix:///run/v.sock"])
def test_the_url_of_one_server_is_left_to_the_clients(url: str) -> None:
    assert parse_broker_url(url) is None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+sentinel://a/m", SentinelUrl((("a", 26379),), "m")),
        (
            "redis+sentinel://us%40er:p%2Fw@a:1,[::1]:2,b/my%20m/3?sentinel_password=s%26w",
            SentinelUrl(
                (("a", 1), ("::1", 2), ("b", 26379)),
                "my m",
                3,
                "us@er",
                "p/w",
                sentinel_password="s&w",
            ),
        ),
        (
            "redis+sentinel://:word@a/m?sentinel_username=s&sentinel_password=t",
            SentinelUrl(
                (("a", 26379),),
                "m",
                password="word",
                sentinel_username="s",
                sentinel_password="t",
            ),
        ),
        (
            "rediss+sentinel://a/m?ssl_cert_reqs=none",
            SentinelUrl((("a", 26379),), "m", tls={"ssl_cert_reqs": "none"}),
        ),
    ],
)
def test_sentinels_by_url(url: str, expected: SentinelUrl) -> None:
    assert parse_broker_url(url) == expected


def test_celery_gets_passwords_that_it_decodes_to_the_same() -> None:
    url = SentinelUrl((("::1", 1), ("b", 2)), "m", 3, "u:@", "p/w;x")
    user = "u%3A%40:p%2Fw%3Bx"
    assert url.celery_url == f"sentinel://{user}@[::1]:1/3;sentinel://{user}@b:2/3"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("amqp://u:secret@h/", "must begin with one of redis://"),
        ("sentinel://:secret@h:1/m", "must begin with one of redis://"),
        ("redis+sentinel://:secret@/m", "a Sentinel without a name"),
        ("redis+sentinel://:secret@a,,b/m", "a Sentinel without a name"),
        ("redis+sentinel://:secret@a:x/m", "percent-encoded"),
        ("redis+sentinel://:secret@a:1", "the master's name is missing"),
        ("redis+sentinel://:secret@a:1/m/x", "the database must be a number, not 'x'"),
        ("redis+sentinel://user@a/m", "a user without a password"),
        ("redis+sentinel://:secret@a/m?ssl_ca_certs=/x", "only with rediss+sentinel://"),
        ("redis+sentinel://:secret@a/m?password=secret", "not understood: password"),
        ("redis+sentinel://:secret@a/m?sentinel_username=x", "needs sentinel_password"),
        ("rediss+sentinel://:secret@a/m?ssl_cert_reqs=maybe", "ssl_cert_reqs must be"),
        ("rediss+sentinel://:secret@a/m?ssl_check_hostname=1", "must be true or false"),
        ("redis+sentinel://[::1/m", "percent-encoded"),
        ("redis://:secret#1@a:6379/0", "percent-encoded"),
        ("rediss://:secret/1@a/0", "percent-encoded"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match="NEVA_REDIS_URL") as caught:
        parse_broker_url(url)
    assert words in caught.value.message
    assert "secret" not in caught.value.message
