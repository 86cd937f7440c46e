from __future__ import annotations

import pytest

from neva.ledger import LedgerCorrupt, ShardRow
from neva.ledger.shard_input import decode_rows, encode_rows, input_header


def test_the_users_lines_are_read_as_rows() -> None:
    lines = b'{"question_id": 7, "question": "Who?", "video": "./a.mp4"}\n'
    lines += b'{"question_id":"8","text":"?","video":"b"}\r\n'
    rows = decode_rows(input_header("video", [3, 9], [4, 11]) + b"\n" + lines, "x")
    assert [(r.seq, r.line, r.row_id, r.question, r.media_name) for r in rows] == [
        (3, 4, "7", "Who?", "a.mp4"),
        (9, 11, "8", "?", "b"),
    ]
    assert list(rows[0].record) == ["question_id", "question", "video"]


def test_rows_come_back_whatever_their_records_say() -> None:
    rows = [
        ShardRow(0, 1, "7", "line\nend \u2028", "a.mp4", {}),
        ShardRow(2, 3, "8", "?", "b", {"x": 1}),
    ]
    assert decode_rows(encode_rows(rows), "x") == rows


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"junk\n",
        b"[]\n{}",
        input_header("video", [1], [1]),
        input_header("video", [1], [1]) + b"\n{}\n",
    ],
)
def test_a_damaged_input_names_its_file(data: bytes) -> None:
    with pytest.raises(LedgerCorrupt, match=r"inputs/00003\.jsonl"):
        decode_rows(data, "inputs/00003.jsonl")
