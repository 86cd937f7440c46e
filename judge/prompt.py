"""The message a judge gets: LLaVA-bench's structure, with texts that can't break out of it.

The structure, and so every number that depends on it, is that of LLaVA's and NeMo's scripts. Their
delimiters are lines like `[End of Assistant 1]`, and they paste answers in as they are, so an
answer holding such a line could close itself and go on in the judge's own voice. Here, square
brackets that form a delimiter become round ones in everything that is quoted (`quote`). Ordinary
texts have no such brackets and stay as they are, byte for byte.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from judge.rules import Rule

SYSTEM_MESSAGE = "You are a helpful and precise assistant for checking the quality of the answer."

# What a reader could take for a square bracket and Unicode's NFKC does not already turn into one.
_OPENING = frozenset("[⁅【〖〔〘〚❲⟦⟬⦗［﹝")
_CLOSING = frozenset("]⁆】〗〕〙〛❳⟧⟭⦘］﹞")
_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")

_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
# `[INST]` is how Mixtral's own chat template marks turns, in plain text.
_NAMES = "context|question|system|assistant|user|human|answer|reference|referenceanswer|inst"
_RESERVED = re.compile(rf"(endof|end)?(?:({_NAMES})([0-9]*|[ab])|[0-9]*)")
_ONLY_WORDS = re.compile(r"[^\W_]+(?:[ ]+[^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message."""

    role: str
    content: str


def build_messages(
    *,
    rule: Rule,
    question: str,
    answers: Sequence[str],
    labels: Sequence[str],
    context: str | None,
    reference: str | None = None,
) -> tuple[Message, ...]:
    """The chat messages that ask for a verdict.

    Args:
        answers: in the order they are shown.
        labels: what follows the role's name for each: `1` and `2` in LLaVA's recipe.
        context: None leaves the section out, as LLaVA's text-only recipe does.
        reference: the right answer, in reference mode.
    """
    role = rule.role
    sections = [] if context is None else [f"[Context]\n{quote(context, role)}\n\n"]
    sections.append(f"[Question]\n{quote(question, role)}\n\n")
    if reference is not None:
        sections.append(f"[Reference Answer]\n{quote(reference, role)}\n\n")
    for label, answer in zip(labels, answers, strict=True):
        name = f"{role} {label}".rstrip()
        sections.append(f"[{name}]\n{quote(answer, role)}\n\n[End of {name}]\n\n")
    sections.append(f"[System]\n{rule.prompt}\n\n")
    return (Message("system", SYSTEM_MESSAGE), Message("user", "".join(sections)))


def quote(text: str, role: str = "Assistant") -> str:
    """`text` in which no square brackets form a delimiter.

    Two rules, tried until neither applies:
    * brackets around one of our delimiters' names, anywhere, whatever its case, spacing, number,
      invisible characters or full-width letters, become round;
    * so do brackets around bare words that fill a line, since letters of other scripts that look
      like Latin ones can't be listed in full. `[0.1, 0.2]` and `["a"]` are no bare words.
    """
    while True:
        quoted = _quote_once(text, _compact(role))
        if quoted == text:
            return quoted
        text = quoted


def _quote_once(text: str, role: str) -> str:
    skeleton, places = _skeleton(text)
    characters = list(text)
    for match in _BRACKETED.finditer(skeleton):
        if _is_reserved(match.group(1), role) or _fills_a_line(skeleton, match):
            characters[places[match.start()]] = "("
            characters[places[match.end() - 1]] = ")"
    return "".join(characters)


def _is_reserved(words: str, role: str) -> bool:
    compact = _compact(words)
    if not compact:
        return False
    without_role = compact.replace(role, "", 1) if role else compact
    return bool(_RESERVED.fullmatch(compact) or _RESERVED.fullmatch(without_role)) and not (
        compact.isdigit()
    )


def _fills_a_line(skeleton: str, match: re.Match[str]) -> bool:
    words = match.group(1).strip()
    if not _ONLY_WORDS.fullmatch(words) or not any(c.isalpha() for c in words):
        return False
    before = skeleton.rfind("\n", 0, match.start()) + 1
    after = skeleton.find("\n", match.end())
    line = skeleton[before:] if after < 0 else skeleton[before:after]
    return line.strip() == match.group(0)


def _compact(words: str) -> str:
    return "".join(c for c in words.casefold() if c.isalnum())


def _skeleton(text: str) -> tuple[str, list[int]]:
    """`text` as a reader sees it, and for each of its characters the place in `text`."""
    seen: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for plain in _plain(character):
            seen.append(plain)
            places.append(place)
    return "".join(seen), places


def _plain(character: str) -> str:
    if character in _OPENING:
        return "["
    if character in _CLOSING:
        return "]"
    if character in _LINE_ENDS:
        return "\n"
    if character.isspace():
        return " "
    if "!" <= character <= "~":
        return character.lower()
    if unicodedata.category(character) in ("Cc", "Cf", "Mn", "Me", "Cn", "Co"):
        return ""
    return unicodedata.normalize("NFKC", character).casefold()
