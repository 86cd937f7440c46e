"""Captions: the words that stand in for the media, which a text-only judge never sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from judge.jsonl import Line, Problem, id_key, read_objects
from judge.questions import Question
from neva.answer_record import media_key
from neva.reasons import Reason


@dataclass(frozen=True, slots=True)
class Contexts:
    """Captions by question id and by media name."""

    by_question: Mapping[str, str] = field(default_factory=dict)
    by_media: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def find(self, question: Question) -> str | None:
        """The caption for `question`: its own before its media's."""
        if question.key in self.by_question:
            return self.by_question[question.key]
        return None if question.media is None else self.by_media.get(question.media)

    def left_over(self, questions: Iterable[Question]) -> list[str]:
        """Question ids and media that have a caption and are not asked about."""
        keys, media = set[str](), set[str | None]()
        for question in questions:
            keys.add(question.key)
            media.add(question.media)
        return sorted([*(set(self.by_question) - keys), *(set(self.by_media) - media)])


def read_contexts(stream: BinaryIO | Iterable[bytes], source: str) -> Contexts:
    """Read a context file: `caption` (a text, or a list of texts joined by newlines).

    A record belongs to its `question_id`, else to its `video`, else to its `image`. Two different
    captions for one of them: neither is used, the question is reported without context.
    """
    found: dict[tuple[str, str], str] = {}
    problems: list[Problem] = []
    ambiguous: set[tuple[str, str]] = set()
    for item in read_objects(stream, source):
        entry = item if isinstance(item, Problem) else _entry(item, source)
        if isinstance(entry, Problem):
            problems.append(entry)
            continue
        owner, caption = entry
        if found.setdefault(owner, caption) != caption and isinstance(item, Line):
            ambiguous.add(owner)
            message = f"{owner[0]} {owner[1]} has another caption further up"
            problems.append(Problem(source, item.number, Reason.CONTEXT_MISSING, message))
    for owner in ambiguous:
        del found[owner]
    return Contexts(
        {name: text for (kind, name), text in found.items() if kind == "question"},
        {name: text for (kind, name), text in found.items() if kind == "media"},
        tuple(problems),
    )


def _entry(line: Line, source: str) -> tuple[tuple[str, str], str] | Problem:
    owner = _owner(line)
    if owner is None:
        message = "the caption belongs to nothing: no question_id, video or image"
        return Problem(source, line.number, Reason.CONTEXT_MISSING, message)
    caption = line.record.get("caption")
    if isinstance(caption, list) and all(isinstance(part, str) for part in caption):
        caption = "\n".join(caption)
    if not isinstance(caption, str) or not caption.strip():
        message = "caption is neither a text nor a list of texts"
        return Problem(source, line.number, Reason.CONTEXT_MISSING, message)
    return owner, caption


def _owner(line: Line) -> tuple[str, str] | None:
    if line.record.get("question_id") is not None:
        key = id_key(line.record["question_id"])
        return None if key is None else ("question", key)
    for kind in ("video", "image"):
        name = line.record.get(kind)
        if isinstance(name, str) and name.strip():
            return "media", media_key(name)
    return None
