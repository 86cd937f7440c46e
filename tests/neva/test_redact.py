from __future__ import annotations

import pytest

from neva.redact import is_secret_name, without_secrets, without_user_info


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@host:6379/0 is", "redis://…@host:6379/0 is"),
        ("got 'https://me:p@ss@host/m'", "got 'https://…@host/m'"),
        ("url=https://me:p/ss@host/m", "url=https://…@host/m"),
        ("redis://:p@a,redis://:q/r@b", "redis://…@a,redis://…@b"),
        ("http://host:8080/a@b.mp4", "http://host:8080/a@b.mp4"),
        ("s3://bucket/a@b.mp4", "s3://bucket/a@b.mp4"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_user_and_password_of_a_url_are_not_repeated(text: str, shown: str) -> None:
    assert without_user_info(text) == shown


@pytest.mark.parametrize("key", ["password", "a.passwd", "api_key", "judge.apiKey", "HF_TOKEN"])
def test_names_of_secrets(key: str) -> None:
    assert is_secret_name(key)


@pytest.mark.parametrize(
    "key", ["inference.insert_media_token", "inference.tokens_to_generate", "tokenizer", "key"]
)
def test_names_that_only_look_so(key: str) -> None:
    assert not is_secret_name(key)


def test_what_a_secret_setting_holds_is_nowhere_in_the_words() -> None:
    words = "+api_key=sk-1: 'api_key=\"sk-1\"', and seed=3"
    assert without_secrets(words, ["+api_key=sk-1", "seed=3"]) == (
        "+api_key=…: 'api_key=\"…\"', and seed=3"
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/?X-Amz-Signature=hunter2", "https://h/?X-Amz-Signature=…"),
        ("https://h/a?page=2&api_key=hunter2&n=1", "https://h/a?page=2&api_key=…&n=1"),
        ("https://h/?x-amz-security-token=hunter2'", "https://h/?x-amz-security-token=…'"),
        ("https://h/a?page=2&size=3", "https://h/a?page=2&size=3"),
    ],
)
def test_secrets_among_the_parameters_of_a_url_are_not_repeated(url: str, shown: str) -> None:
    assert (
        without_secrets(f"can't read '+url={url}", [f"+url={url}"]) == f"can't read '+url={shown}"
    )
