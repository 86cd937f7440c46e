"""Opens the judge's input files by URI and gathers them into one comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from judge.answers import AnswerSet, read_answers
from judge.contexts import read_contexts
from judge.jsonl import Problem
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
    """Where the inputs of a comparison lie.

    Attributes:
        context: None judges without captions.
        rules: None takes the project's own rubric.
    """

    questions: str
    answers: tuple[NamedAnswers, NamedAnswers]
    context: str | None = None
    rules: str | None = None


@dataclass(frozen=True, slots=True)
class Inputs:
    """A comparison, and the unusable lines of its question and context files."""

    comparison: Comparison
    problems: tuple[Problem, ...]


def read_inputs(files: InputFiles, open_uri: OpenObject = open_object) -> Inputs:
    """Read everything that a comparison needs.

    Raises:
        ConfigError: a file is missing, or holds nothing usable.
        StoreError: a file can't be read.
    """
    with _stream(files.questions, open_uri) as stream:
        questions = read_questions(stream, files.questions)
    if not questions.questions:
        raise ConfigError(f"{files.questions}: no usable question{_first(questions.problems)}")
    first, second = (_answers(answers, open_uri) for answers in files.answers)
    contexts = None
    if files.context is not None:
        with _stream(files.context, open_uri) as stream:
            contexts = read_contexts(stream, files.context)
    rules = default_rules()
    if files.rules is not None:
        with _stream(files.rules, open_uri) as stream:
            rules = parse_rules(stream.read(), files.rules)
    comparison = Comparison(questions.questions, (first, second), rules, contexts)
    return Inputs(comparison, questions.problems + (contexts.problems if contexts else ()))


def _answers(answers: NamedAnswers, open_uri: OpenObject) -> AnswerSet:
    with _stream(answers.uri, open_uri) as stream:
        found = read_answers(stream, answers.name, answers.uri)
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
