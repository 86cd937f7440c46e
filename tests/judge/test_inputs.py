from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from judge.answers import read_answers
from judge.contexts import read_contexts
from judge.inputs import InputFiles, NamedAnswers, read_inputs
from judge.modes import TRAITS, Mode
from judge.questions import read_questions
from judge.rules import default_rules
from neva.errors import ConfigError
from neva.reasons import Reason


def lines(*records: object) -> list[bytes]:
    return [orjson.dumps(record) + b"\n" for record in records]


def test_questions_keep_their_order_and_lose_the_media_tag() -> None:
    found = read_questions(
        lines(
            {"question_id": 7, "text": "What is it?<video>", "video": "./a.mp4"},
            {"question_id": "x", "prompt": "P", "text": "T", "image": "1.jpg", "category": "conv"},
        ),
        "q.jsonl",
    )
    first, second = found.questions
    assert (first.key, first.text, first.category, first.media) == (
        "7",
        "What is it?",
        "default",
        "a.mp4",
    )
    assert (second.text, second.category, second.media) == ("P", "conv", "1.jpg")


def test_bad_question_lines_are_named_and_shift_nothing() -> None:
    found = read_questions(
        [
            b"\xef\xbb\xbf" + lines({"question_id": 0, "text": "a"})[0].replace(b"\n", b"\r\n"),
            b"\n",
            b"{broken\n",
            b"[1]\n",
            *lines({"text": "no id"}, {"question_id": True, "text": "t"}, {"question_id": 1}),
            *lines({"question_id": "0", "text": "again"}, {"question_id": 2, "text": "c"}),
        ],
        "q.jsonl",
    )
    assert [question.key for question in found.questions] == ["0", "2"]
    assert [(problem.line, problem.reason) for problem in found.problems] == [
        (3, Reason.INVALID_JSON),
        (4, Reason.NOT_AN_OBJECT),
        (5, Reason.MISSING_QUESTION_ID),
        (6, Reason.INVALID_QUESTION_ID),
        (7, Reason.MISSING_TEXT),
        (8, Reason.DUPLICATE_QUESTION_ID),
    ]


def test_a_json_array_of_questions_is_read_too() -> None:
    found = read_questions([b'[{"question_id": 1, "text": "a"}]'], "prompts.json")
    assert [question.text for question in found.questions] == ["a"]


@pytest.mark.parametrize(
    "record",
    [
        {"question_id": 3, "text": "it moves"},
        {"question_id": "3", "text": "it moves"},
        {"response_id": 3, "response": "it moves"},
        {"question_id": 3, "text": "What moves?", "pred_answer": "it moves"},
        {"question_id": 3, "text": "What moves?", "response": "it moves", "full_text": "…"},
    ],
)
def test_every_known_shape_of_an_answer_is_read(record: dict[str, object]) -> None:
    assert read_answers(lines(record), "m", "a.jsonl").texts == {"3": "it moves"}


def test_an_id_with_two_answers_is_ambiguous_and_one_said_twice_is_not() -> None:
    found = read_answers(
        lines(
            {"question_id": 1, "text": "a"},
            {"question_id": 2, "text": "b"},
            {"question_id": 1, "text": "other"},
            {"question_id": 2, "text": "b"},
        ),
        "m",
        "a.jsonl",
    )
    assert found.texts == {"2": "b"}
    assert found.ambiguous == {"1"}
    assert [(p.line, p.reason) for p in found.problems] == [(3, Reason.DUPLICATE_QUESTION_ID)]


def test_an_answer_that_is_no_text_is_a_problem() -> None:
    found = read_answers(lines({"question_id": 1, "response": None, "text": "Q?"}), "m", "a")
    assert not found.texts
    assert found.problems[0].reason is Reason.ANSWER_MISSING


def test_contexts_are_found_by_question_before_media_whatever_the_kind() -> None:
    contexts = read_contexts(
        lines(
            {"id": "001", "image": "001.jpg", "caption": "one"},
            {"video": "a.mp4", "caption": ["two", "lines"]},
            {"question_id": 5, "caption": "own"},
            {"video": "b.mp4", "caption": "x"},
            {"video": "b.mp4", "caption": "y"},
            {"caption": "nobody's"},
        ),
        "c.jsonl",
    )
    questions = read_questions(
        lines(
            {"question_id": 4, "text": "t", "video": "a.mp4"},
            {"question_id": 5, "text": "t", "video": "a.mp4"},
            {"question_id": 6, "text": "t", "image": "001.jpg"},
            {"question_id": 7, "text": "t", "video": "b.mp4"},
            {"question_id": 8, "text": "t"},
        ),
        "q.jsonl",
    ).questions
    assert [contexts.find(question) for question in questions] == [
        "two\nlines",
        "own",
        "one",
        None,
        None,
    ]
    assert [problem.line for problem in contexts.problems] == [5, 6]


def test_files_are_joined_through_their_uris(tmp_path: Path) -> None:
    files = {
        "q.jsonl": lines({"question_id": 1, "text": "Q", "video": "v"}),
        "ref.jsonl": lines({"question_id": 1, "text": "A"}),
        "outputs.jsonl": lines({"question_id": 1, "text": "Q", "response": "B"}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(b"".join(content))
    wanted = InputFiles(
        str(tmp_path / "q.jsonl"),
        (
            (
                NamedAnswers("reference", (tmp_path / "ref.jsonl").as_uri()),
                NamedAnswers("model", str(tmp_path / "outputs.jsonl")),
            ),
        ),
    )
    (comparison,) = read_inputs(wanted).comparisons
    assert [answers.texts for answers in comparison.answers] == [{"1": "A"}, {"1": "B"}]
    assert comparison.contexts is None
    assert {"conv", "detail", "complex", "default"} <= set(comparison.rules.rules)


def test_a_missing_or_empty_file_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(b"\n")
    answers = NamedAnswers("a", str(tmp_path / "a.jsonl")), NamedAnswers("b", "/nowhere/b.jsonl")
    with pytest.raises(ConfigError, match="no usable question"):
        read_inputs(InputFiles(str(tmp_path / "q.jsonl"), (answers,)))
    with pytest.raises(ConfigError, match=r"missing\.jsonl does not exist"):
        read_inputs(InputFiles(str(tmp_path / "missing.jsonl"), (answers,)))


def test_a_reference_may_stand_beside_the_answer(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(b"".join(lines({"question_id": 1, "text": "Q"})))
    both = {"question_id": 1, "question": "Q", "ref_answer": "right", "pred_answer": "said"}
    (tmp_path / "both.jsonl").write_bytes(b"".join(lines(both)))
    uri = str(tmp_path / "both.jsonl")
    pair = (NamedAnswers("truth", uri), NamedAnswers("model", uri))
    wanted = InputFiles(str(tmp_path / "q.jsonl"), (pair,), mode=Mode.REFERENCE)
    (comparison,) = read_inputs(wanted).comparisons
    assert [dict(answers.texts) for answers in comparison.answers] == [
        {"1": "right"},
        {"1": "said"},
    ]


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_has_a_rubric_of_its_own(mode: Mode) -> None:
    rules = default_rules(TRAITS[mode].rules)
    assert rules.find("any category at all") is not None
