"""The quick way through a prompts file: many ordinary lines checked at once, in columns.

`neva.prompts` says of each line what is wrong with it. Nearly all lines of a large file are like
their neighbours and nothing is wrong with them; that much can be told of hundreds at a time, by
functions that loop in C, for little more than parsing them costs. It never refuses a line: what is
not surely good is for `neva.prompts` to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from types import NoneType
from typing import Any, cast

import orjson

from neva.errors import RowError
from neva.media_names import are_plain_names
from neva.prompts import TEXT_KEYS, PromptRules, may_lose_something, media_tag_problem

# More kinds of records than this among neighbours are not ordinary.
_MAX_SHAPES = 16
# No nesting, and no float: an integer beyond 64 bits would have become one, and be lost.
_SIMPLE = frozenset((str, int, bool, NoneType))


@dataclass(frozen=True, slots=True)
class Columns:
    """Good rows, each list one value a row.

    Attributes:
        row_ids: in UTF-8.
    """

    row_ids: Sequence[bytes]
    questions: Sequence[str]
    media_names: Sequence[str]


def ordinary_columns(raws: Sequence[bytes | RowError], rules: PromptRules) -> Columns | None:
    """The rows of some lines, none of which `check_line` would refuse but for a doubled id.

    None if that can't be told quickly, for some of them.
    """
    lines = cast(Sequence[bytes], raws)  # orjson refuses all else
    try:
        records = list(map(orjson.loads, lines))
    except orjson.JSONDecodeError:
        return None
    if set(map(type, records)) != {dict}:
        return None
    by_key = _values_by_key(records)
    shapes = {tuple(by_key)} if by_key else set(map(tuple, records))
    text_key = _common_text_key(shapes, rules)
    if text_key is None:
        return None
    # These three are looked at in any case.
    ids, questions, names = (
        by_key.pop(key) if by_key else [record[key] for record in records]
        for key in ("question_id", text_key, rules.media_type)
    )
    others = by_key.values() if by_key is not None else map(dict.values, records)
    types = set(map(type, chain.from_iterable(others)))
    if not _SIMPLE.issuperset(types) and any(map(may_lose_something, lines)):
        return None
    row_ids = _row_ids(ids)
    media_names = _media_names(names, rules)
    if row_ids is None or media_names is None or not _are_questions(questions, rules):
        return None
    return Columns(row_ids, questions, media_names)


def _values_by_key(records: Sequence[dict[str, Any]]) -> dict[str, list[Any]] | None:
    """Each key's values if all records have the same keys, as nearly all have."""
    keys = records[0]
    if set(map(len, records)) != {len(keys)}:
        return None
    try:
        return {key: list(map(itemgetter(key), records)) for key in keys}
    except KeyError:
        return None


def media_names_of(raws: Sequence[bytes], rules: PromptRules) -> Sequence[str]:
    """What lines are about in which nothing is wrong."""
    names = [orjson.loads(raw)[rules.media_type] for raw in raws]
    return names if are_plain_names(names) else list(map(rules.media_name, names))


def _common_text_key(shapes: set[tuple[str, ...]], rules: PromptRules) -> str | None:
    """Where all records with these keys have their question, if nothing is wrong with the keys."""
    if len(shapes) > _MAX_SHAPES:
        return None
    found = set()
    for keys in map(frozenset, shapes):
        if not keys >= {"question_id", rules.media_type} or keys & rules.reserved_keys:
            return None
        found.add(next((key for key in TEXT_KEYS if key in keys), None))
    return found.pop() if len(found) == 1 else None


def _row_ids(ids: Sequence[object]) -> Sequence[bytes] | None:
    if set(map(type, ids)) == {int}:
        return orjson.dumps(ids)[1:-1].split(b",")
    return list(map(str.encode, ids)) if _are_texts(ids) else None  # type: ignore[arg-type]


def _media_names(names: Sequence[object], rules: PromptRules) -> Sequence[str] | None:
    if set(map(type, names)) != {str}:
        return None
    if are_plain_names(names):  # type: ignore[arg-type]
        return names  # type: ignore[return-value]
    try:
        return list(map(rules.media_name, names))  # type: ignore[arg-type]
    except RowError:
        return None


def _are_questions(texts: Sequence[object], rules: PromptRules) -> bool:
    if not _are_texts(texts):
        return False
    if rules.insert_media_token is not None and "<" not in "".join(texts):  # type: ignore[arg-type]
        return True
    how = rules.media_type, rules.insert_media_token
    return not any(media_tag_problem(text, *how) for text in texts)  # type: ignore[arg-type]


def _are_texts(values: Sequence[object]) -> bool:
    return set(map(type, values)) == {str} and all(map(str.strip, values))  # type: ignore[arg-type]
