from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import ConfigError, RowError
from neva.prompt_lines import MAX_ARRAY_BYTES, array_items, raw_lines
from neva.reasons import Reason


def lines_of(data: bytes, max_line_bytes: int = 100) -> list[tuple[int, bytes | Reason]]:
    return _plain(raw_lines(io.BytesIO(data), max_line_bytes))


def items_of(data: bytes, max_line_bytes: int = 100) -> list[tuple[int, bytes | Reason]]:
    return _plain(array_items(io.BytesIO(data), max_line_bytes))


def _plain(
    lines: Iterator[tuple[int, bytes | RowError]],
) -> list[tuple[int, bytes | Reason]]:
    return [(n, raw.reason if isinstance(raw, RowError) else raw) for n, raw in lines]


def test_blank_lines_are_skipped_and_counted() -> None:
    assert lines_of(b"\n  \n{1}\n\r\n\t\n{2}") == [(3, b"{1}"), (6, b"{2}")]


@pytest.mark.parametrize("data", [b"", b"\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n", b" "])
def test_an_empty_file_has_no_lines(data: bytes) -> None:
    assert lines_of(data) == []
    assert items_of(data) == []


def test_a_byte_order_mark_and_carriage_returns_do_no_harm() -> None:
    lines = lines_of(b"\xef\xbb\xbf{1}\r\n{2}\r\n")
    assert [(n, raw.strip()) for n, raw in lines if isinstance(raw, bytes)] == [
        (1, b"{1}"),
        (2, b"{2}"),
    ]


def test_line_separators_of_unicode_do_not_end_a_line() -> None:
    text = '{"a": "x\u2028y\x85z\x0b"}'.encode()
    assert lines_of(text + b"\n") == [(1, text)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\nshort"])
def test_a_line_that_is_too_long_is_one_error(end: bytes) -> None:
    after = [(3, b"short")] if end == b"\nshort" else []
    assert lines_of(b"a\n" + b"x" * 100 + end) == [(1, b"a"), (2, b"x" * 100), *after]
    assert lines_of(b"a\n" + b"x" * 101 + end) == [(1, b"a"), (2, Reason.ROW_TOO_LARGE), *after]


def test_a_huge_line_is_never_held() -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(5000):
            yield bytes(1000)
        yield b"\n{1}\n"

    tracemalloc.start()
    assert _plain(raw_lines(chunks(), 5000)) == [(1, Reason.ROW_TOO_LARGE), (2, b"{1}")]
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100_000


@given(st.lists(st.binary(max_size=30)), st.integers(1, 7), st.integers(1, 20))
def test_lines_do_not_depend_on_where_the_file_is_cut(
    lines: list[bytes], chunk_bytes: int, max_line_bytes: int
) -> None:
    data = b"\n".join(lines)
    chunks = [data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes)]
    assert _plain(raw_lines(chunks, max_line_bytes)) == lines_of(data, max_line_bytes)


def test_an_array_gives_its_elements_with_the_lines_they_start_on() -> None:
    data = b'\xef\xbb\xbf\n[ {"a": 1},\n {"b":\n  [2]}, 3\n,\n"x"\n]\n'
    assert items_of(data) == [(2, b'{"a": 1}'), (3, b'{"b":\n  [2]}'), (4, b"3"), (6, b'"x"')]
    assert items_of(b"[]") == []
    assert items_of(b'["' + b"x" * 100 + b'"]') == [(1, Reason.ROW_TOO_LARGE)]


def test_a_json_file_may_hold_lines_all_the_same() -> None:
    assert items_of(b'{"a": 1}\n{"a": 2}\n') == [(1, b'{"a": 1}'), (2, b'{"a": 2}')]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"[1,\n2\n3]", 3),
        (b"[1,\n]", 2),
        (b"[1,\n2", 2),
        (b"[", 1),
        (b"[1]\nx", 2),
        (b"[" * 5000, 1),
    ],
)
def test_a_broken_array_keeps_what_came_before(data: bytes, line: int) -> None:
    items = items_of(data)
    assert items[-1] == (line, Reason.INVALID_JSON)
    assert all(isinstance(raw, bytes) for _, raw in items[:-1])


def test_an_array_that_is_no_utf8_names_the_line() -> None:
    assert items_of(b"[1,\n\xff]") == [(2, Reason.INVALID_ENCODING)]


def test_an_array_too_large_to_hold_is_refused_with_the_way_out() -> None:
    chunks = (b" " * (1 << 20) for _ in range((MAX_ARRAY_BYTES >> 20) + 1))
    with pytest.raises(ConfigError, match="jq -c"):
        list(array_items(chunks, 100))
