"""Opens the judge's input files by URI and gathers them into one comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from judge.answers import AnswerSet, read_answers
from judge.contexts import read_contexts
from judge.jsonl import Problem
from judge.modes import TRAITS, Mode
from judge.plan import Comparison
from judge.questions import read_questions
from judge.rules import default_rules, parse_rules
from neva.errors import ConfigError
from neva.ledger import layout
from neva.store import NotFound, Store, open_object

OpenObject = Callable[[str], tuple[Store, str]]
"""From the URI of a file to the store and key where it lies."""


@dataclass(frozen=True, slots=True)
class NamedAnswers:
    """An answer file and how the tables call it."""

    name: str
    uri: str


@dataclass(frozen=True, slots=True)
class InputFiles:
    """Where the inputs of comparisons lie.

    Attributes:
        pairs: which answer files are compared; the first of each is answer 1.
        context: None judges without captions.
        rules: None takes the project's own rubric.
    """

    questions: str
    pairs: tuple[tuple[NamedAnswers, NamedAnswers], ...]
    context: str | None = None
    rules: str | None = None
    mode: Mode = Mode.SCORES


@dataclass(frozen=True, slots=True)
class Inputs:
    """Comparisons, and the unusable lines of their question and context files."""

    comparisons: tuple[Comparison, ...]
    problems: tuple[Problem, ...]


def read_inputs(files: InputFiles, open_uri: OpenObject = open_object) -> Inputs:
    """Read everything that comparisons need, each file once.

    Raises:
        ConfigError: a file is missing, or holds nothing usable.
        StoreError: a file can't be read.
    """
    with _stream(files.questions, open_uri) as stream:
        questions = read_questions(stream, files.questions)
    if not questions.questions:
        raise ConfigError(f"{files.questions}: no usable question{_first(questions.problems)}")
    contexts = None
    if files.context is not None:
        with _stream(files.context, open_uri) as stream:
            contexts = read_contexts(stream, files.context)
    rules = default_rules(TRAITS[files.mode].rules)
    if files.rules is not None:
        with _stream(files.rules, open_uri) as stream:
            rules = parse_rules(stream.read(), files.rules)
    read: dict[tuple[NamedAnswers, bool], AnswerSet] = {}

    def answers(named: NamedAnswers, is_reference: bool) -> AnswerSet:
        key = (named, is_reference)
        if key not in read:
            read[key] = _answers(named, open_uri, is_reference)
        return read[key]

    comparisons = tuple(
        Comparison(
            questions.questions,
            (answers(first, files.mode is Mode.REFERENCE), answers(second, False)),
            rules,
            contexts,
            files.mode,
        )
        for first, second in files.pairs
    )
    return Inputs(comparisons, questions.problems + (contexts.problems if contexts else ()))


def _answers(answers: NamedAnswers, open_uri: OpenObject, is_reference: bool) -> AnswerSet:
    with _stream(answers.uri, open_uri) as stream:
        found = read_answers(stream, answers.name, answers.uri, is_reference=is_reference)
    if not found.texts and found.problems:
        raise ConfigError(f"{answers.uri}: no usable answer{_first(found.problems)}")
    return found


@contextmanager
def _stream(uri: str, open_uri: OpenObject) -> Iterator[BinaryIO]:
    store, key = open_uri(uri)
    try:
        with store.open_read(key) as stream:
            yield stream
    except NotFound as error:
        hint = "; run the job first" if key == layout.OUTPUTS else ""
        raise ConfigError(f"{uri} does not exist{hint}", reason=error.reason) from error


def _first(problems: tuple[Problem, ...]) -> str:
    return f"; the first problem: {problems[0]}" if problems else ""
