"""What an evaluation leaves: the answers in one file, and each of them on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from neva.ledger import layout
from neva.store import Store, open_object

_ANSWER_KEYS = {"batch": "response", "nemo-rc0": "text", "nemo-rc1": "pred_answer"}
_RULE = "-" * 45


def write_answers(run: Store, file: str) -> int:
    """Copy a run's answers to `file`: as lines, or for a name in .json as one array.

    Returns how many they are.
    """
    store, key = open_object(file)
    is_array = key.lower().endswith(".json")
    number = 0
    with store.open_write(key) as out:
        for number, line in enumerate(_lines(run), 1):
            if is_array:
                item = orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2)
                out.write(b"[\n" if number == 1 else b",\n")
                out.write(b"  " + item.replace(b"\n", b"\n  "))
            else:
                out.write(line)
        if is_array:
            out.write(b"\n]\n" if number else b"[]\n")
    return number


def shown(record: dict[str, Any], output_format: str, number: int, num_prompts: int) -> str:
    """One answer with its prompt, as neva_evaluation.py prints it.

    Args:
        number: its place among the prompts, from 1.
    """
    answer = record[_ANSWER_KEYS[output_format]]
    return (
        f"------------- PROMPT {number} of {num_prompts} ------------\n"
        f"{_printable(record['full_text'])}\n\n"
        f"CLEAN RESPONSE: {_printable(answer)}\n"
        f"{_RULE}\n\n"
    )


def _printable(text: str) -> str:
    """The text without what would command a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in text)


def _lines(run: Store) -> Iterator[bytes]:
    with run.open_read(layout.OUTPUTS) as stream:
        yield from stream
