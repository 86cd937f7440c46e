from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import RowError
from neva.media_names import normalise_media_name
from neva.reasons import Reason
from neva.store.base import is_valid_key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.mp4", "a.mp4"),
        ("clips/2024/a-b_c.1.mp4", "clips/2024/a-b_c.1.mp4"),
        ("./clips//a.mp4", "clips/a.mp4"),
        ("clips/./a.mp4", "clips/a.mp4"),
        ("my clip (1) ü 日本.mp4", "my clip (1) ü 日本.mp4"),
        ("e\u0301.mp4", "e\u0301.mp4"),  # no Unicode normalisation: keys are compared by bytes
        ("100%.mp4", "100%.mp4"),
        ("a%20b%2Fc.mp4", "a%20b%2Fc.mp4"),  # taken literally
        ("12:30.mp4", "12:30.mp4"),
        ("clips/C:x.mp4", "clips/C:x.mp4"),
        ("..hidden/...mp4", "..hidden/...mp4"),
        ("~/a.mp4", "~/a.mp4"),
        (".hidden", ".hidden"),
    ],
)
def test_names_below_the_base_are_kept(name: str, key: str) -> None:
    assert normalise_media_name(name) == key


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("..", "climbs"),
        ("../a.mp4", "climbs"),
        ("a/../b.mp4", "climbs"),
        ("a/..", "climbs"),
        ("/etc/passwd", "absolute"),
        ("//host/share", "absolute"),
        ("a\\b.mp4", "backslash"),
        ("..\\a.mp4", "backslash"),
        ("a\0b.mp4", "NUL"),
        ("a\nb.mp4", "control character"),
        ("http://host/a.mp4", "URL"),
        ("S3://other/a.mp4", "URL"),
        ("s3:other", "URL"),
        ("file:a.mp4", "URL"),
        ("data:video/mp4;base64,AAAA", "URL"),
        ("concat:/a.mp4", "URL"),
        ("C:a.mp4", "drive"),
        ("C:/a.mp4", "URL or a drive"),
        ("%2e%2e/a.mp4", "percent-decoded, it climbs"),
        ("a/%2E%2e%2fb.mp4", "percent-decoded, it climbs"),
        ("%252e%252e/a.mp4", "percent-decoded, it climbs"),
        ("%2Fetc/passwd", "percent-decoded, it is absolute"),
        ("a%00.mp4", "percent-decoded, it holds a NUL"),
        ("a%5Cb.mp4", "percent-decoded, it holds a backslash"),
        ("file%3Aa.mp4", "percent-decoded, it is a URL"),
        ("\uff0e\uff0e/a.mp4", "Unicode forms folded, it climbs"),
        ("a/\u2025/b.mp4", "Unicode forms folded, it climbs"),
        ("..\uff0fa.mp4", "Unicode forms folded, it climbs"),
        ("%EF%BC%8E%EF%BC%8E/a.mp4", "percent-decoded, it climbs"),
        ("\uff0fetc/passwd", "Unicode forms folded, it is absolute"),
        ("clips/", "directory"),
        ("./", "directory"),
        (".", "it is empty"),
        ("a/.neva-tmp-x", "temporary"),
        ("a" * 1025, "1025 bytes"),
        ("\ud800.mp4", "Unicode"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, problem: str) -> None:
    with pytest.raises(RowError) as caught:
        normalise_media_name(name)
    assert caught.value.reason is Reason.INVALID_MEDIA_NAME
    assert problem in caught.value.message


@given(st.text(st.sampled_from("ab./\\%2eE5cC:~ \0\uff0e\u2025\uff0f"), max_size=12))
def test_whatever_is_accepted_is_a_key_below_the_base(name: str) -> None:
    try:
        key = normalise_media_name(name)
    except RowError as error:
        assert error.reason is Reason.INVALID_MEDIA_NAME
        return
    assert is_valid_key(key)
    assert normalise_media_name(key) == key
