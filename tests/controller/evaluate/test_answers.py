"""The file of answers, and the answers on a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from controller.evaluate.answers import shown, write_answers
from neva.ledger import layout
from neva.store import Store, open_store

RECORDS: list[dict[str, Any]] = [
    {"question_id": 1, "text": "A car.", "full_text": "Q1<video> A car.", "metadata": {}},
    {"question_id": 2, "text": "Zwei Bäume.", "full_text": "Q2<video> Zwei Bäume.", "metadata": {}},
]


def run_with(folder: Path, records: list[dict[str, Any]]) -> Store:
    store = open_store(f"{folder}/run/")
    store.put(layout.OUTPUTS, "".join(json.dumps(r) + "\n" for r in records).encode())
    return store


def test_lines_are_copied_byte_by_byte(tmp_path: Path) -> None:
    run = run_with(tmp_path, RECORDS)
    assert write_answers(run, f"{tmp_path}/new/r.jsonl") == 2
    assert (tmp_path / "new" / "r.jsonl").read_bytes() == run.get(layout.OUTPUTS)


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], []])
def test_a_name_in_json_gets_one_array(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    assert write_answers(run_with(tmp_path, records), f"{tmp_path}/r.json") == len(records)
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == records
    assert text.rstrip("\n") == json.dumps(records, indent=2, ensure_ascii=False)


def test_an_answer_is_shown_with_its_prompt_as_the_original_does() -> None:
    text = shown(RECORDS[0], "nemo-rc0", 1, 2)
    assert text.startswith("------------- PROMPT 1 of 2 ------------\nQ1<video> A car.\n\n")
    assert "\nCLEAN RESPONSE: A car.\n---" in text


@pytest.mark.parametrize(
    ("output_format", "key"),
    [("batch", "response"), ("nemo-rc0", "text"), ("nemo-rc1", "pred_answer")],
)
def test_the_answer_is_found_in_every_format(output_format: str, key: str) -> None:
    record = {"text": "asked", "response": "asked", "full_text": "…", key: "said"}
    assert "CLEAN RESPONSE: said\n" in shown(record, output_format, 1, 1)


def test_an_answer_can_not_command_the_terminal() -> None:
    text = shown({"full_text": "a\x1b]0;x\x07\tb\nc", "text": "\x1b[2J"}, "nemo-rc0", 1, 1)
    assert "\x1b" not in text
    assert "a\\x1b]0;x\\x07\tb\nc" in text
