"""Answer files, whoever wrote them, as one mapping from question id to answer text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from judge.jsonl import Line, Problem, id_key, read_objects
from neva.answer_record import ANSWER_KEYS
from neva.reasons import Reason

# A reference may stand beside the answer that is to be judged, as in NeMo's eval_vqa.py.
_REFERENCE_KEYS = ("ref_answer", *ANSWER_KEYS)
_ID_KEYS = ("question_id", "response_id")


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """The answers of one model.

    Attributes:
        name: how the tables call it.
        texts: answer by question id (the form of `jsonl.id_key`).
        problems: lines that are no answer.
        ambiguous: ids with two different answers; they count as unanswered.
    """

    name: str
    texts: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    ambiguous: frozenset[str] = frozenset()


def read_answers(
    stream: BinaryIO | Iterable[bytes], name: str, source: str, *, is_reference: bool = False
) -> AnswerSet:
    """Read an answer file of any known shape, in any order.

    Shapes: `{question_id, text}`, `{response_id, response}`, `{question_id, text, pred_answer}`,
    our own output records. An id that comes twice with the same answer is one answer; with two
    different answers nobody can tell which is meant, so neither is judged and both are reported.

    Args:
        is_reference: a `ref_answer` is taken before anything else.
    """
    keys = _REFERENCE_KEYS if is_reference else ANSWER_KEYS
    texts: dict[str, str] = {}
    problems: list[Problem] = []
    ambiguous: set[str] = set()
    for item in read_objects(stream, source):
        answer = item if isinstance(item, Problem) else _answer(item, source, keys)
        if isinstance(answer, Problem):
            problems.append(answer)
            continue
        key, text = answer
        if texts.setdefault(key, text) != text and isinstance(item, Line):
            ambiguous.add(key)
            message = f"question {key} has another answer further up"
            problems.append(Problem(source, item.number, Reason.DUPLICATE_QUESTION_ID, message))
    for key in ambiguous:
        del texts[key]
    return AnswerSet(name, texts, tuple(problems), frozenset(ambiguous))


def _first(record: Mapping[str, object], keys: Sequence[str]) -> object:
    return next((record[key] for key in keys if key in record), None)


def _answer(line: Line, source: str, keys: Sequence[str]) -> tuple[str, str] | Problem:
    given_id = next((line.record[k] for k in _ID_KEYS if line.record.get(k) is not None), None)
    if given_id is None:
        message = "question_id (or response_id) is missing"
        return Problem(source, line.number, Reason.MISSING_QUESTION_ID, message)
    key = id_key(given_id)
    if key is None:
        message = f"the id {given_id!r} is neither an integer nor a text"
        return Problem(source, line.number, Reason.INVALID_QUESTION_ID, message)
    text = _first(line.record, keys)
    if not isinstance(text, str):
        message = f"there is no answer: none of {', '.join(keys)} is a text"
        return Problem(source, line.number, Reason.ANSWER_MISSING, message)
    return key, text
