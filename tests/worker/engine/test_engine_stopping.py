from __future__ import annotations

from collections.abc import Sequence

import pytest

from worker.engine.stopping import Ending, StopRule

# Two halves of a character; alone each decodes to one replacement character.
HALVES = {11: "\xf0", 12: "\x9f"}
WORDS = ["</s>", "red", " square", "\n", "###", " ##", "# Human", "\n##", "é", "<extra_id_1>", "x#"]


class WordTokenizer:
    """Each id is a piece of text; "###" is also one token, "Human" is none."""

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return [WORDS.index(text)] if text in WORDS else [1, 1]

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        text = "".join(HALVES.get(i) or WORDS[i] for i in ids)
        return text.replace("\xf0\x9f", "😀").replace("\xf0", "�").replace("\x9f", "�")

    def token_id(self, token: str) -> int | None:
        return WORDS.index(token) if token in WORDS and token.startswith("<") else None


def check(
    token_ids: list[int], *stop_strings: str, max_new_tokens: int = 99, eos: tuple[int, ...] = (0,)
) -> Ending | None:
    """The first ending while the ids come one by one."""
    rule = StopRule(
        eos_ids=eos,
        stop_strings=stop_strings,
        max_new_tokens=max_new_tokens,
        tokenizer=WordTokenizer(),
    )
    for count in range(1, len(token_ids) + 1):
        ending = rule.check(token_ids[:count])
        if ending is not None:
            return ending
    return None


def test_an_answer_without_stop_goes_on() -> None:
    assert check([1, 2, 3], "###", "<extra_id_1>", "no such text") is None


@pytest.mark.parametrize("eos", [(0,), (7, 0)])
def test_any_end_of_sequence_id_stops_and_is_not_kept(eos: tuple[int, ...]) -> None:
    assert check([1, 2, 0], eos=eos) == Ending("stop", 2)


def test_the_length_stops_and_everything_is_kept() -> None:
    assert check([1, 2, 3], max_new_tokens=2) == Ending("length", 2)


def test_a_stop_at_the_last_allowed_token_is_a_stop() -> None:
    assert check([1, 0], max_new_tokens=2) == Ending("stop", 1)


def test_a_stop_string_that_is_one_token_stops_by_its_id() -> None:
    assert check([1, 9], "<extra_id_1>") == Ending("stop", 1)
    assert check([1, 4], "###") == Ending("stop", 1)


def test_a_stop_string_over_several_tokens_is_found_and_all_its_tokens_are_dropped() -> None:
    assert check([1, 2, 5, 6], "### Human") == Ending("stop", 2)
    assert check([1, 7, 6], "\n### Human") == Ending("stop", 1)


def test_white_space_before_a_stop_string_goes_with_its_token() -> None:
    assert check([1, 3, 5, 6], "### Human") == Ending("stop", 1)


def test_a_token_that_holds_both_text_and_stop_stays_with_a_note_of_what_to_cut() -> None:
    assert check([1, 10, 6], "## Human") == Ending("stop", 2, stop_text_tail="#")


def test_text_after_the_stop_string_in_its_last_token_is_dropped() -> None:
    assert check([1, 7, 6], "\n### Hu") == Ending("stop", 1)


def test_a_stop_string_is_looked_for_in_bytes_not_characters() -> None:
    assert check([8, 8, 1], "éér") == Ending("stop", 0)


def test_a_character_of_several_tokens_before_a_stop_string_is_kept_whole() -> None:
    assert check([1, 11, 12, 5, 6], "### Human") == Ending("stop", 3)


def test_a_stop_string_that_ends_with_the_last_allowed_token_is_a_stop() -> None:
    assert check([1, 5, 6], "### Human", max_new_tokens=3) == Ending("stop", 1)
