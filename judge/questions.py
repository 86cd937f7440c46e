"""The questions to be judged: what was asked, about which media, in which category."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from judge.jsonl import Line, Problem, id_key, read_objects
from neva.answer_record import media_key
from neva.prompts import TEXT_KEYS
from neva.reasons import Reason

DEFAULT_CATEGORY = "default"
_MEDIA_KEYS = ("video", "image")


@dataclass(frozen=True, slots=True)
class Question:
    """One question.

    Attributes:
        key: the id in the form in which files are joined.
        question_id: the id as the question file has it.
        media: name of its video or image, None when the file names none.
    """

    key: str
    question_id: int | str
    text: str
    category: str = DEFAULT_CATEGORY
    media: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """The usable questions in file order, and the lines that are none."""

    questions: tuple[Question, ...]
    problems: tuple[Problem, ...]


def read_questions(stream: BinaryIO | Iterable[bytes], source: str) -> QuestionSet:
    """Read a question file, or the prompts file of a job.

    Keys: `question_id`, the text under the same keys as in a job's prompts (`prompt` wins),
    `category` (else "default"), `video` or `image`. Of lines with one id the first stands, the
    others are problems: that is also what the job itself answers.
    """
    questions: dict[str, Question] = {}
    problems: list[Problem] = []
    for item in read_objects(stream, source):
        if isinstance(item, Problem):
            problems.append(item)
            continue
        question = _question(item, source)
        if isinstance(question, Problem):
            problems.append(question)
        elif question.key in questions:
            message = f"question_id {question.question_id!r} was there before"
            problems.append(Problem(source, item.number, Reason.DUPLICATE_QUESTION_ID, message))
        else:
            questions[question.key] = question
    return QuestionSet(tuple(questions.values()), tuple(problems))


def _question(line: Line, source: str) -> Question | Problem:
    record = line.record
    if record.get("question_id") is None:
        return Problem(source, line.number, Reason.MISSING_QUESTION_ID, "question_id is missing")
    question_id: Any = record["question_id"]
    key = id_key(question_id)
    if key is None:
        message = f"question_id {question_id!r} is neither an integer nor a text"
        return Problem(source, line.number, Reason.INVALID_QUESTION_ID, message)
    text = next((record[key] for key in TEXT_KEYS if key in record), None)
    if not isinstance(text, str) or not without_media_tags(text):
        return Problem(source, line.number, Reason.MISSING_TEXT, "there is no prompt or text")
    category = record.get("category")
    media = next((record[k] for k in _MEDIA_KEYS if isinstance(record.get(k), str)), None)
    return Question(
        key=key,
        question_id=question_id,
        text=without_media_tags(text),
        category=category.strip()
        if isinstance(category, str) and category.strip()
        else DEFAULT_CATEGORY,
        media=None if media is None else media_key(media),
    )


def without_media_tags(text: str) -> str:
    """The question without the literal <video>/<image> tag: it places media, it asks nothing."""
    return text.replace("<video>", "").replace("<image>", "").strip()
