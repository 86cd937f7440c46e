"""Which questions surely become a prompt that fits, seen without tokenizing them.

Only a first look, for the controller, who has a million of them: what it does not vouch for is
tokenized. Should it ever be wrong, the worker, which tokenizes every row, refuses the row in the
same words.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from neva.templates import MEDIA_TAGS, InsertMedia, MediaType, Template
from neva.token_bounds import MARGIN_TOKENS, plain_length

_PROBES = ("a", "bc de")


class PromptFit:
    """Knows how long a question may be.

    Args:
        insert: where the media tag goes; None when the question brings it.
        spellings: of the tokens that mark media in the prompt; a question that holds one is bad.
        tokens_per_character: of the tokenizer; None: nothing is sure.
        budget_tokens: what the context leaves for the prompt's text.
    """

    def __init__(
        self,
        template: Template,
        media_type: MediaType,
        insert: InsertMedia | None,
        spellings: Sequence[str],
        tokens_per_character: int | None,
        budget_tokens: int,
    ) -> None:
        self._tag = MEDIA_TAGS[media_type]
        self._is_tag_inside = insert is None
        marks = [_first_mark(spelling) for spelling in spellings]
        self._marks = {mark for mark in marks if mark is not None}
        # A shorter one might complete a spelling together with the text around it.
        self._min_characters = max(map(len, spellings), default=0)
        self._max_characters = 0
        around = _text_around(template, self._tag)
        if tokens_per_character is not None and around is not None and None not in marks:
            fixed = plain_length(around) + sum(map(plain_length, spellings))
            self._max_characters = (budget_tokens - MARGIN_TOKENS) // tokens_per_character - fixed

    def vouches_for_all(self, questions: Sequence[str]) -> bool:
        """Whether all of them surely fit."""
        texts = list(map(self._without_tag, questions)) if self._is_tag_inside else questions
        together = "".join(texts)
        if not together.isascii():
            return all(map(self._fits, texts))
        lengths = list(map(len, texts))
        return (
            max(lengths) <= self._max_characters
            and min(lengths) > self._min_characters
            and not any(mark in together for mark in self._marks)
        )

    def vouches_for(self, question: str) -> bool:
        """Whether this one surely fits."""
        return self._fits(self._without_tag(question))

    def _fits(self, text: str) -> bool:
        if not self._min_characters < plain_length(text) <= self._max_characters:
            return False
        # A tokenizer may fold what only looks like a mark.
        folded = text if text.isascii() else unicodedata.normalize("NFKD", text)
        return not any(mark in folded for mark in self._marks)

    def _without_tag(self, text: str) -> str:
        return text.replace(self._tag, "", 1) if self._is_tag_inside else text


def _first_mark(spelling: str) -> str | None:
    """A character that every text with the spelling in it holds, and few others do."""
    marks = (character for character in spelling if not character.isalnum() and character != " ")
    return next((mark for mark in marks if mark.isascii()), None)


def _text_around(template: Template, tag: str) -> str | None:
    """What a template writes around any question; None if that depends on the question."""
    around = {
        text.replace(f"{tag}{probe}", tag)
        for probe in _PROBES
        if (text := template.render(f"{tag}{probe}")).count(f"{tag}{probe}") == 1
    }
    return around.pop() if len(around) == 1 else None
