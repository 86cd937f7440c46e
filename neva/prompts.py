"""Reads the prompts file: one question about one media file per line, good or bad.

Every non-blank line gives exactly one item, in the file's order, so that a run can name all bad
rows at once and answer the good ones. Nothing here looks at the media or the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, BinaryIO, Literal, Protocol

import orjson

from neva.duplicates import DuplicateIndex
from neva.errors import RowError
from neva.media_names import normalise_media_anywhere, normalise_media_name
from neva.prompt_lines import array_items, raw_lines
from neva.reasons import Reason

MediaType = Literal["video", "image"]
InsertMediaToken = Literal["left", "right"] | None
Layout = Literal["jsonl", "json"]

TEXT_KEYS = ("prompt", "text", "question")
"""Where the question stands; the first one present wins (NeMo v2.0.0rc0 knows the first two)."""

RESERVED_KEYS = frozenset(
    (
        "response",
        "full_text",
        "model_id",
        "answer_id",
        "finish_reason",
        "num_prompt_tokens",
        "num_generated_tokens",
        "frames",
        "decoder",
        "attempt",
        "logprobs",
        "compat",
        "quantization",
    )
)
"""Keys of the output record. A record that has one already would lose its value."""

RESERVED_KEYS_OF_FORMAT: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "batch": RESERVED_KEYS,
        # The original fills `answer_id` and `metadata` in where they are missing, and writes the
        # others over what the record has of them.
        "nemo-rc0": frozenset(("full_text", "model_id", "logprobs")),
        "nemo-rc1": frozenset(("full_text", "model_id", "logprobs", "pred_answer")),
    }
)
"""The same by `model.compat.outputFormat`."""

DEFAULT_MAX_LINE_BYTES = 1 << 20
_OTHER_MEDIA: dict[MediaType, MediaType] = {"video": "image", "image": "video"}
# Runs of digits as long as this may be integers beyond 64 bits, which orjson turns into floats.
_LONG_NUMBER = b"0" * 19
_ANY_DIGIT_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_INT_RANGE = range(-(1 << 63), 1 << 64)
# orjson reads 1024 levels but writes 254, and what is written has a few of its own. A level takes
# two bytes, so a shorter line need not be looked at.
_ALWAYS_WRITABLE_LEVELS = 200


class SeenIds(Protocol):
    """The row ids met so far."""

    def first_line(self, row_id: str, line: int) -> int | None:
        """The line on which this id was seen before; None, and remembered, if it was not."""


@dataclass(frozen=True, slots=True)
class PromptRules:
    """What a job wants of its records, as `read_prompts` takes it."""

    media_type: MediaType
    insert_media_token: InsertMediaToken
    reserved_keys: Set[str] = RESERVED_KEYS
    media_name: Callable[[str], str] = normalise_media_name


@dataclass(frozen=True, slots=True)
class PromptRow:
    """A question that can be asked.

    Attributes:
        seq: index among the non-blank lines, good or bad: the output order.
        line: 1-based line in the file.
        row_id: `question_id` as text; 7 and "7" are the same id.
        question: the text without media tags unless the record holds one itself.
        media_name: relative to `mediaBasePath`, normalised.
        record: the parsed line, unchanged.
    """

    seq: int
    line: int
    row_id: str
    question: str
    media_name: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that can't be answered, and why.

    Attributes:
        reason: of the first problem.
        message: all problems, joined by "; ".
        row_id: None if there is no usable id.
        record: None if the line is no JSON object.
    """

    seq: int
    line: int
    row_id: str | None
    reason: Reason
    message: str
    record: dict[str, Any] | None


def layout_of(name: str) -> Layout:
    """The layout that a prompts file's name tells: `.json` holds one array, all else lines."""
    return "json" if name.lower().endswith(".json") else "jsonl"


def read_prompts(
    stream: BinaryIO | Iterable[bytes],
    media_type: MediaType,
    insert_media_token: InsertMediaToken,
    *,
    seen: SeenIds | None = None,
    max_line_bytes: int = DEFAULT_MAX_LINE_BYTES,
    layout: Layout = "jsonl",
    reserved_keys: Set[str] = RESERVED_KEYS,
    media_name: Callable[[str], str] = normalise_media_name,
) -> Iterator[PromptRow | BadRow]:
    """Yield one item per non-blank line, in order, in memory bounded by `max_line_bytes`.

    Args:
        stream: binary file, or its content in pieces cut anywhere.
        insert_media_token: where the media tag will be put; None means the text holds it.
        seen: the ids met so far; pass one to share it between files.
        reserved_keys: keys that no record may have.
        media_name: what a record's media name means, or why it is none (`neva.media_names`).
        layout: see `layout_of`. A `json` file is held in memory (64 MiB at most).

    Raises:
        ConfigError: a `json` file is too large.
    """
    seen = DuplicateIndex() if seen is None else seen
    lines = (raw_lines if layout == "jsonl" else array_items)(stream, max_line_bytes)
    rules = PromptRules(media_type, insert_media_token, reserved_keys, media_name)
    for seq, (line, raw) in enumerate(lines):
        yield check_line(seq, line, raw, rules, seen)


def check_line(
    seq: int, line: int, raw: bytes | RowError, rules: PromptRules, seen: SeenIds
) -> PromptRow | BadRow:
    """One line's row, or everything that is wrong with it."""
    try:
        record = _parse(raw)
    except RowError as error:
        return BadRow(seq, line, None, error.reason, error.message, None)
    return check_record(seq, line, record, rules, seen)


def media_tag_problem(
    text: str, media_type: MediaType, insert_media_token: InsertMediaToken
) -> str | None:
    """Why the text's literal media tags would give none or several media, or None.

    A prompt must end up with exactly one tag, of the job's media type: with none the model
    answers blind, with two it reads features that do not exist.
    """
    if "<" not in text and insert_media_token is not None:
        return None
    tag, other_tag = f"<{media_type}>", f"<{_OTHER_MEDIA[media_type]}>"
    num_tags = text.count(tag)
    if other_tag in text:
        return f"the text holds {other_tag}, but mediaType is {media_type}"
    if insert_media_token is not None and num_tags:
        return (
            f"the text holds {tag}, and insert_media_token: {insert_media_token} would add "
            "another; remove one of them"
        )
    if insert_media_token is None and num_tags != 1:
        return (
            f"the text must hold {tag} exactly once when insert_media_token is null, "
            f"it holds it {num_tags} times"
        )
    return None


def _parse(raw: bytes | RowError) -> dict[str, Any]:
    if isinstance(raw, RowError):
        raise raw
    try:
        record = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _parse_error(raw, error) from None
    if not isinstance(record, dict):
        raise RowError(
            f"not a JSON object but {_kind(record)}: write one {{…}} per line",
            reason=Reason.NOT_AN_OBJECT,
        )
    if len(raw) > 2 * _ALWAYS_WRITABLE_LEVELS:
        _refuse_deep_nesting(raw, record)
    if _may_hold_huge_int(raw):
        json.loads(raw, parse_int=_refuse_huge_int)
    return record


def may_lose_something(raw: bytes) -> bool:
    """Whether a line that can be parsed may not be written again as it is: too deep, or huge ints.

    May be wrong only in one direction.
    """
    return raw.count(b"[") + raw.count(b"{") > _ALWAYS_WRITABLE_LEVELS or _may_hold_huge_int(raw)


def _may_hold_huge_int(raw: bytes) -> bool:
    return _LONG_NUMBER in raw.translate(_ANY_DIGIT_TO_ZERO)


def _refuse_deep_nesting(raw: bytes, record: dict[str, Any]) -> None:
    if raw.count(b"[") + raw.count(b"{") > _ALWAYS_WRITABLE_LEVELS:
        try:
            orjson.dumps({"error": {"record": record}})  # as a part would have to hold it
        except TypeError:
            raise RowError("nested too deeply", reason=Reason.INVALID_JSON) from None


def _parse_error(raw: bytes, error: orjson.JSONDecodeError) -> RowError:
    try:
        raw.decode()
    except UnicodeDecodeError as encoding_error:
        return RowError(
            f"not valid UTF-8 at byte {encoding_error.start + 1}: save the file as UTF-8",
            reason=Reason.INVALID_ENCODING,
        )
    return RowError(
        f"not valid JSON at column {error.colno}: {error.msg}", reason=Reason.INVALID_JSON
    )


def _refuse_huge_int(digits: str) -> int:
    number = int(digits)
    if number not in _INT_RANGE:
        raise RowError(
            f"the integer {digits[:30]} needs more than 64 bits and would not be kept exactly: "
            "write it as a string",
            reason=Reason.INVALID_JSON,
        )
    return number


def check_record(
    seq: int, line: int, record: dict[str, Any], rules: PromptRules, seen: SeenIds
) -> PromptRow | BadRow:
    """All problems of one record at once; a row if there are none."""
    problems: list[tuple[Reason, str]] = []
    row_id = _row_id(record, line, seen, problems)
    question = _question(record, problems)
    media_name = _media_name(record, rules, problems)
    if question is not None:
        tag_problem = media_tag_problem(question, rules.media_type, rules.insert_media_token)
        if tag_problem is not None:
            problems.append((Reason.MEDIA_TOKEN_CONFLICT, tag_problem))
    if reserved := rules.reserved_keys & record.keys():
        names = ", ".join(sorted(reserved))
        problems.append((Reason.RESERVED_KEY, f"the output writes these keys itself: {names}"))
    if problems or row_id is None or question is None or media_name is None:
        message = "; ".join(words for _, words in problems)
        return BadRow(seq, line, row_id, problems[0][0], message, record)
    return PromptRow(seq, line, row_id, question, media_name, record)


def asked(record: dict[str, Any], media_type: MediaType) -> tuple[str, str, str]:
    """(row id, question, media name) of a record that `check_record` found nothing wrong with."""
    question = next(record[key] for key in TEXT_KEYS if key in record)
    return str(record["question_id"]), question, normalise_media_anywhere(record[media_type])


def _row_id(
    record: dict[str, Any], line: int, seen: SeenIds, problems: list[tuple[Reason, str]]
) -> str | None:
    value = record.get("question_id")
    if isinstance(value, str) and value.strip():
        row_id = value
    elif isinstance(value, int) and not isinstance(value, bool):
        row_id = str(value)
    elif "question_id" not in record:
        problems.append((Reason.MISSING_QUESTION_ID, "there is no question_id"))
        return None
    else:
        problems.append(
            (
                Reason.INVALID_QUESTION_ID,
                f"question_id must be an integer or a non-empty string, not {_kind(value)}",
            )
        )
        return None
    first_line = seen.first_line(row_id, line)
    if first_line is not None:
        problems.append(
            (
                Reason.DUPLICATE_QUESTION_ID,
                f"question_id {row_id[:100]!r} stands on line {first_line} already",
            )
        )
    return row_id


def _question(record: dict[str, Any], problems: list[tuple[Reason, str]]) -> str | None:
    for key in TEXT_KEYS:
        if key in record:
            text = record[key]
            if isinstance(text, str) and text.strip():
                return text
            problems.append((Reason.MISSING_TEXT, f"{key} must be a text, not {_kind(text)}"))
            return None
    problems.append((Reason.MISSING_TEXT, "there is neither prompt nor text nor question"))
    return None


def _media_name(
    record: dict[str, Any], rules: PromptRules, problems: list[tuple[Reason, str]]
) -> str | None:
    media_type = rules.media_type
    name = record.get(media_type)
    if isinstance(name, str):
        try:
            return rules.media_name(name)
        except RowError as error:
            problems.append((error.reason, error.message))
            return None
    other = _OTHER_MEDIA[media_type]
    if media_type in record:
        problems.append(
            (Reason.INVALID_MEDIA_NAME, f"{media_type} must be a file name, not {_kind(name)}")
        )
    elif other in record:
        problems.append(
            (
                Reason.WRONG_MEDIA_KEY,
                f"the record names its media under {other}, but mediaType is {media_type}",
            )
        )
    else:
        problems.append((Reason.MISSING_MEDIA_KEY, f"there is no {media_type}"))
    return None


def _kind(value: object) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "a text" if value.strip() else "an empty text"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    return "a list" if isinstance(value, list) else "an object"
