from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.duplicates import DuplicateIndex
from neva.prompts import BadRow, PromptRow, layout_of, media_tag_problem, read_prompts
from neva.reasons import Reason

GOOD: dict[str, Any] = {"question_id": 1, "video": "a.mp4", "text": "What moves?"}


def read(data: bytes, **options: Any) -> list[PromptRow | BadRow]:
    options = {"media_type": "video", "insert_media_token": "right", **options}
    return list(read_prompts(io.BytesIO(data), **options))


def read_one(record: object, **options: Any) -> PromptRow | BadRow:
    (item,) = read(json.dumps(record).encode(), **options)
    return item


def changed(**changes: Any) -> dict[str, Any]:
    """The good record with keys set, or removed with None."""
    record = {**GOOD, **changes}
    return {key: value for key, value in record.items() if value is not ...}


def test_a_good_line_becomes_a_row() -> None:
    record = changed(category="conv", nested={"a": [1.5, None]})
    assert read_one(record) == PromptRow(0, 1, "1", "What moves?", "a.mp4", record)


@pytest.mark.parametrize(
    ("record", "question"),
    [
        (changed(prompt="P", question="Q"), "P"),
        (changed(question="Q"), "What moves?"),
        (changed(text=..., question="Q"), "Q"),
    ],
)
def test_prompt_wins_over_text_and_text_over_question(
    record: dict[str, Any], question: str
) -> None:
    row = read_one(record)
    assert isinstance(row, PromptRow)
    assert row.question == question


def test_the_media_name_is_normalised_and_the_record_is_not() -> None:
    row = read_one(changed(video="./clips//a.mp4"))
    assert isinstance(row, PromptRow)
    assert (row.media_name, row.record["video"]) == ("clips/a.mp4", "./clips//a.mp4")


def test_the_job_decides_which_of_two_media_is_meant() -> None:
    record = changed(image="b.png")
    row = read_one(record, media_type="image")
    assert isinstance(row, PromptRow)
    assert row.media_name == "b.png"


@pytest.mark.parametrize(
    ("record", "reason", "words"),
    [
        ([1], Reason.NOT_AN_OBJECT, "a list"),
        ("x", Reason.NOT_AN_OBJECT, "a text"),
        (None, Reason.NOT_AN_OBJECT, "null"),
        (changed(text=...), Reason.MISSING_TEXT, "neither prompt nor text"),
        (changed(text=""), Reason.MISSING_TEXT, "an empty text"),
        (changed(text=" \n"), Reason.MISSING_TEXT, "an empty text"),
        (changed(prompt=None), Reason.MISSING_TEXT, "prompt must be a text, not null"),
        (changed(text=["a"]), Reason.MISSING_TEXT, "a list"),
        (changed(question_id=...), Reason.MISSING_QUESTION_ID, "no question_id"),
        (changed(question_id=None), Reason.INVALID_QUESTION_ID, "null"),
        (changed(question_id=True), Reason.INVALID_QUESTION_ID, "true"),
        (changed(question_id=1.0), Reason.INVALID_QUESTION_ID, "1.0"),
        (changed(question_id={}), Reason.INVALID_QUESTION_ID, "an object"),
        (changed(question_id=" "), Reason.INVALID_QUESTION_ID, "an empty text"),
        (changed(video=...), Reason.MISSING_MEDIA_KEY, "no video"),
        (changed(video=..., image="a"), Reason.WRONG_MEDIA_KEY, "mediaType is video"),
        (changed(video=3), Reason.INVALID_MEDIA_NAME, "the number 3"),
        (changed(video=["a.mp4"]), Reason.INVALID_MEDIA_NAME, "a list"),
        (changed(video=""), Reason.INVALID_MEDIA_NAME, "empty"),
        (changed(video="../a.mp4"), Reason.INVALID_MEDIA_NAME, "climbs"),
        (changed(response="x", frames=1), Reason.RESERVED_KEY, "frames, response"),
        (changed(text="a <video> b"), Reason.MEDIA_TOKEN_CONFLICT, "insert_media_token: right"),
        (changed(n=2**64), Reason.INVALID_JSON, "more than 64 bits"),
        (changed(n=[-(2**63) - 1]), Reason.INVALID_JSON, "more than 64 bits"),
    ],
)
def test_a_bad_line_tells_its_reason(record: object, reason: Reason, words: str) -> None:
    item = read_one(record)
    assert isinstance(item, BadRow)
    assert (item.seq, item.line, item.reason) == (0, 1, reason)
    assert words in item.message


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        (b'{"a": nope}', Reason.INVALID_JSON, "column 7"),
        ('{"é": nope}'.encode(), Reason.INVALID_JSON, "column 7"),
        (b'{"a": NaN}', Reason.INVALID_JSON, "column 7"),
        (b'{"a": 1', Reason.INVALID_JSON, "column"),
        (b'{"a": "\\ud800"}', Reason.INVALID_JSON, "surrogate"),
        (b'{"a": 1e999}', Reason.INVALID_JSON, "infinity"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, Reason.INVALID_JSON, "nested too deeply"),
        (b"[" * 5000, Reason.INVALID_JSON, "column"),
        (b'{"a": "\xff"}', Reason.INVALID_ENCODING, "byte 8"),
        ('{"a": 1}'.encode("utf-16"), Reason.INVALID_ENCODING, "UTF-8"),
        (b'{"a": "' + b"x" * 20_000 + b'"}', Reason.ROW_TOO_LARGE, "10000 bytes"),
    ],
)
def test_a_line_that_can_not_be_parsed_has_no_record(
    line: bytes, reason: Reason, words: str
) -> None:
    bad, good = read(line + b"\n" + json.dumps(GOOD).encode(), max_line_bytes=10_000)
    assert isinstance(bad, BadRow)
    assert (bad.reason, bad.row_id, bad.record) == (reason, None, None)
    assert words in bad.message
    assert good == PromptRow(1, 2, "1", "What moves?", "a.mp4", GOOD)


def test_numbers_at_the_edges_and_doubled_keys_are_fine() -> None:
    record = changed(n=[2**64 - 1, -(2**63), 0.12345678901234567890123], s="9" * 40)
    row = read_one(record)
    assert isinstance(row, PromptRow)
    assert row.record == record
    (twice,) = read(b'{"question_id": 1, "video": "a.mp4", "text": "x", "text": "y"}')
    assert isinstance(twice, PromptRow)
    assert twice.question == "y"


def test_a_second_use_of_an_id_names_the_line_of_the_first() -> None:
    records = [changed(question_id=q) for q in (7, 8, "7", 7, " 7")]
    data = b"\n\n".join(json.dumps(record).encode() for record in records)
    first, other, text, number, with_space = read(data)
    assert all(isinstance(row, PromptRow) for row in (first, other, with_space))
    for item, line in ((text, 5), (number, 7)):
        assert isinstance(item, BadRow)
        assert (item.reason, item.row_id, item.line) == (Reason.DUPLICATE_QUESTION_ID, "7", line)
        assert "line 1 already" in item.message


def test_the_ids_of_several_files_can_be_compared() -> None:
    seen = DuplicateIndex()
    assert isinstance(read_one(GOOD, seen=seen), PromptRow)
    assert isinstance(read_one(GOOD, seen=seen), BadRow)


def test_a_row_with_several_problems_tells_all_of_them() -> None:
    item = read_one({"question_id": 1.5, "image": "a", "text": "", "attempt": 1})
    assert isinstance(item, BadRow)
    assert item.reason is Reason.INVALID_QUESTION_ID
    assert item.message.count("; ") == 3
    assert item.record is not None


@pytest.mark.parametrize(
    ("text", "media_type", "insert", "words"),
    [
        ("What?", "video", "left", None),
        ("a < b > c", "video", "left", None),
        ("What? <video>", "video", "left", "add another"),
        ("What? <video>", "video", None, None),
        ("What?", "video", None, "0 times"),
        ("<video><video>", "video", None, "2 times"),
        ("<image>", "image", None, None),
        ("<image>", "image", "right", "add another"),
        ("<image> What?", "video", "left", "holds <image>"),
        ("<video> <image>", "video", None, "holds <image>"),
        ("<VIDEO>", "video", "left", None),
    ],
)
def test_there_must_be_one_media_tag_in_the_end(
    text: str, media_type: Any, insert: Any, words: str | None
) -> None:
    problem = media_tag_problem(text, media_type, insert)
    assert (problem is None) if words is None else (problem is not None and words in problem)


def test_the_name_tells_the_layout() -> None:
    assert [layout_of(name) for name in ("a.json", "A.JSON", "a.jsonl", "a")] == [
        "json",
        "json",
        "jsonl",
        "jsonl",
    ]
    rows = read(json.dumps([GOOD, changed(question_id=2)], indent=1).encode(), layout="json")
    assert [(row.seq, row.line, row.row_id) for row in rows] == [(0, 2, "1"), (1, 7, "2")]


def test_ten_kinds_of_bad_rows_are_named_in_one_reading() -> None:
    lines = [
        json.dumps(GOOD).encode(),
        b'{"question_id": 2,',
        b'{"question_id": 3, "video": "a.mp4", "text": "\xff"}',
        b"[]",
        json.dumps(changed(question_id=4, text=...)).encode(),
        json.dumps(changed(question_id=...)).encode(),
        b"",
        json.dumps(changed(question_id=None)).encode(),
        json.dumps(changed(question_id=1)).encode(),
        json.dumps(changed(question_id=5, video=..., image="a.png")).encode(),
        json.dumps(changed(question_id=6, video=...)).encode(),
        json.dumps(changed(question_id=7, video="../../etc/passwd")).encode(),
        json.dumps(changed(question_id=8, text="<video> What?")).encode(),
        json.dumps(changed(question_id=9, response="x")).encode(),
        json.dumps(changed(question_id=10)).encode(),
    ]
    items = read(b"\r\n".join(lines))
    assert [item.seq for item in items] == list(range(14))
    assert [item.line for item in items if isinstance(item, PromptRow)] == [1, 15]
    assert [
        (item.line, item.row_id, item.reason) for item in items if isinstance(item, BadRow)
    ] == [
        (2, None, Reason.INVALID_JSON),
        (3, None, Reason.INVALID_ENCODING),
        (4, None, Reason.NOT_AN_OBJECT),
        (5, "4", Reason.MISSING_TEXT),
        (6, None, Reason.MISSING_QUESTION_ID),
        (8, None, Reason.INVALID_QUESTION_ID),
        (9, "1", Reason.DUPLICATE_QUESTION_ID),
        (10, "5", Reason.WRONG_MEDIA_KEY),
        (11, "6", Reason.MISSING_MEDIA_KEY),
        (12, "7", Reason.INVALID_MEDIA_NAME),
        (13, "8", Reason.MEDIA_TOKEN_CONFLICT),
        (14, "9", Reason.RESERVED_KEY),
    ]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)  # fmt: skip
RECORDS = st.dictionaries(
    st.sampled_from(["question_id", "video", "image", "text", "prompt", "response", "other"]),
    JSON_VALUES | st.sampled_from(["a.mp4", "What?", "<video>", "../x"]),
)
LINES = st.one_of(
    st.builds(lambda n: json.dumps(changed(question_id=n)).encode(), st.integers(0, 50)),
    st.builds(lambda record: json.dumps(record).encode(), RECORDS | JSON_VALUES),
    st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")),
    st.sampled_from([b"", b"  ", b"\t"]),
)


@given(st.lists(LINES, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.booleans())
def test_every_line_that_is_not_blank_gives_one_item_in_order(
    lines: list[bytes], line_end: bytes, with_bom: bool
) -> None:
    bom = b"\xef\xbb\xbf" if with_bom else b""
    items = read(bom + line_end.join(lines))
    expected = [
        number
        for number, line in enumerate(lines, start=1)
        if line.removeprefix(b"\xef\xbb\xbf" if number == 1 and not with_bom else b"").strip()
    ]
    assert [item.line for item in items] == expected
    assert [item.seq for item in items] == list(range(len(expected)))
    good_ids = [item.row_id for item in items if isinstance(item, PromptRow)]
    assert len(good_ids) == len(set(good_ids))
