"""From a judge's words to scores, or to the reason why there are none. Pure.

The rule is that of LLaVA's and NeMo's scripts: the verdict stands alone on the first line. Their
parsers also take three numbers, `nan`, 15 or -1 for scores; here those are no verdict. Around the
rule judges write markdown, labels, JSON, a line of preamble or their thoughts. That is read where
it has one meaning only (tests/judge/wild_replies.jsonl); nothing is ever picked out of prose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from judge.modes import Mode

MIN_SCORE, MAX_SCORE = 1.0, 10.0

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)(?:\s*/\s*10(?:\.0+)?)?"
_TWO = re.compile(rf"{_NUMBER}(?:\s*[,;|&]\s*|\s+and\s+|\s+){_NUMBER}\s*\.?", re.IGNORECASE)
_ONE = re.compile(rf"{_NUMBER}\s*\.?")
_WHO = r"(?:assistant|answer|model|response)?"
_LABELLED = re.compile(
    rf"(?:(?:score|rating)\s+for\s+|score[ _])?{_WHO}[ _]*([12ab])\s*(?:'s)?\s*(?:score|rating)?"
    rf"\s*[:=]\s*{_NUMBER}\s*\.?",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"(?:(?:my|the|final|overall|here\s+(?:are|is))\s+)*(?:my\s+|the\s+)?"
    r"(?:scores?|ratings?|verdict|judge?ment|answer|result|winner|output|correct(?:ness)?)"
    r"(?:\s+(?:is|are))?\s*[:=]\s*(?P<rest>.*)",
    re.IGNORECASE,
)
_THOUGHTS = re.compile(r"\A\s*<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"\A```[a-z]*\s*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)
_DECORATION = "*_#`~>\"'“”‘’ \t"
_MOST_LABELLED_LINES = 2

_VERDICTS: Mapping[str, tuple[float, float]] = {"a": (1, 0), "b": (0, 1), "tie": (0.5, 0.5)}
_SAME_AS = {"c": "tie", "draw": "tie", "equal": "tie"}
_WINNER = re.compile(
    r"(?:assistant|answer|model|response)?[ _]*(a|b|c|tie|draw|equal)"
    r"(?:\s+(?:wins|is\s+better))?\s*[.!]?",
    re.IGNORECASE,
)
_CORRECTNESS = {"correct": 1.0, "true": 1.0, "yes": 1.0, "incorrect": 0.0, "false": 0.0, "no": 0.0}
_FIRST_KEYS = ("first", "score_1", "score1", "assistant_1", "assistant1", "answer_1", "1", "a")
_SECOND_KEYS = ("second", "score_2", "score2", "assistant_2", "assistant2", "answer_2", "2", "b")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Scores of the answers shown, in the order they were shown."""

    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class NoVerdict:
    """Why a reply holds no verdict, for the user."""

    why: str


def parse_verdict(reply: str, mode: Mode = Mode.SCORES) -> Verdict | NoVerdict:
    """Read a reply. `8/10 7/10` is accepted, another denominator is not: its scale is unknown."""
    text = _FENCE.sub(r"\1", _THOUGHTS.sub("", reply).strip()).strip()
    if not text:
        return NoVerdict("the judge's reply is empty")
    if text.startswith("{"):
        return _from_json(text, mode)
    line = text.splitlines()[0].strip()
    scores = next((found for c in _candidates(text) if (found := _READERS[mode](c))), None)
    if scores is None and mode is Mode.SCORES:
        scores = _labelled(text)
    if scores is None:
        return NoVerdict(f"the reply's first line holds no {_WANTED[mode]}: {_shortened(line)}")
    return _in_range(scores, mode, line)


def _candidates(text: str) -> Iterator[str]:
    """What may stand for the verdict's line: the first, without decoration or heading, or the
    second, if the first is a heading alone or an announcement without any digit."""
    lines = [line for line in map(_bare, text.splitlines()) if line]
    if not lines:
        return
    first = lines[0]
    yield first
    heading = _HEADING.fullmatch(first)
    if heading is not None and heading["rest"]:
        yield _bare(heading["rest"])
    is_announcement = first.endswith(":") and not any(c.isdigit() for c in first)
    if len(lines) > 1 and is_announcement:
        yield lines[1]


def _bare(line: str) -> str:
    """`line` without markdown, quotes and brackets around it."""
    while True:
        bare = line.strip(_DECORATION)
        for opening, closing in ("[]", "()"):
            if bare.startswith(opening) and bare.endswith(closing):
                bare = bare[1:-1]
        if bare == line:
            # `**Scores:** 8 7` leaves stars in the middle.
            return " ".join(bare.replace("**", " ").split())
        line = bare


def _two_scores(line: str) -> tuple[float, ...] | None:
    match = _TWO.fullmatch(line)
    return None if match is None else (float(match[1]), float(match[2]))


def _one_score(line: str) -> tuple[float, ...] | None:
    match = _ONE.fullmatch(line)
    return None if match is None else (float(match[1]),)


def _winner(line: str) -> tuple[float, ...] | None:
    match = _WINNER.fullmatch(line)
    if match is None:
        return None
    word = match[1].casefold()
    return _VERDICTS[_SAME_AS.get(word, word)]


def _correctness(line: str) -> tuple[float, ...] | None:
    score = _CORRECTNESS.get(line.casefold().rstrip(".!"))
    return None if score is None else (score,)


_READERS = {
    Mode.SCORES: _two_scores,
    Mode.VERDICT: _winner,
    Mode.SINGLE: _one_score,
    Mode.REFERENCE: _correctness,
}
_WANTED = {
    Mode.SCORES: "two scores",
    Mode.VERDICT: "A, B or tie",
    Mode.SINGLE: "score",
    Mode.REFERENCE: "correct or incorrect",
}


def _labelled(text: str) -> tuple[float, ...] | None:
    """`Assistant 1: 8` and `Assistant 2: 7`, on the first line or on the first two."""
    bare = (_bare(line.strip().removeprefix("- ")) for line in text.splitlines())
    lines = [line for line in bare if line][:_MOST_LABELLED_LINES]
    parts = [part for line in lines for part in re.split(r"\s*[,;|]\s*", line) if part]
    found: dict[str, float] = {}
    for part in parts:
        match = _LABELLED.fullmatch(_bare(part))
        if match is None:
            break
        label = {"a": "1", "b": "2"}.get(match[1].casefold(), match[1])
        if label in found:
            return None
        found[label] = float(match[2])
    return (found["1"], found["2"]) if len(found) == 2 else None


def _from_json(text: str, mode: Mode) -> Verdict | NoVerdict:
    try:
        record = orjson.loads(text[: text.rindex("}") + 1])
    except ValueError:
        return NoVerdict(f"the reply starts like JSON and is none: {_shortened(text)}")
    values = {str(key).casefold().replace(" ", "_"): value for key, value in record.items()}
    scores = _json_scores(values, mode)
    if scores is None:
        return NoVerdict(f"the reply's JSON holds no {_WANTED[mode]}: {_shortened(text)}")
    return _in_range(scores, mode, text)


def _json_scores(values: Mapping[str, Any], mode: Mode) -> tuple[float, ...] | None:
    if mode is Mode.VERDICT:
        word = next((values[k] for k in ("verdict", "winner") if k in values), None)
        return _winner(word.strip()) if isinstance(word, str) else None
    if mode is Mode.REFERENCE:
        word = values.get("correct", values.get("verdict"))
        return _correctness(str(word)) if isinstance(word, bool | str) else None
    if mode is Mode.SINGLE:
        given = [values.get("score", values.get("rating"))]
    elif isinstance(values.get("scores"), list):
        given = values["scores"]
    else:
        given = [_only(values, keys) for keys in (_FIRST_KEYS, _SECOND_KEYS)]
    wanted = 1 if mode is Mode.SINGLE else 2
    scores = [_number(value) for value in given]
    if len(scores) != wanted or None in scores:
        return None
    return tuple(score for score in scores if score is not None)


def _only(values: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    found = [values[key] for key in keys if key in values]
    return found[0] if len(found) == 1 else None


def _number(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    match = _ONE.fullmatch(value.strip()) if isinstance(value, str) else None
    return None if match is None else float(match[1])


def _in_range(scores: tuple[float, ...], mode: Mode, line: str) -> Verdict | NoVerdict:
    is_scale = mode in (Mode.SCORES, Mode.SINGLE)
    if is_scale and not all(MIN_SCORE <= score <= MAX_SCORE for score in scores):
        return NoVerdict(f"a score is out of 1 to 10: {_shortened(line)}")
    return Verdict(scores)


def _shortened(line: str, most: int = 80) -> str:
    return repr(line if len(line) <= most else line[: most - 1] + "…")
