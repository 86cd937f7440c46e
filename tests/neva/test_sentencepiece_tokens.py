from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.sentencepiece_tokens import SentencePieceTokenizer
from tests.neva.sentencepiece_model import EXTRA_IDS, sentencepiece_model

LLAMA = SentencePieceTokenizer.from_bytes(sentencepiece_model(), "tokenizer.model")
LEGACY = SentencePieceTokenizer.from_bytes(
    sentencepiece_model(()), "tokenizer.model", EXTRA_IDS, legacy=True
)

printable = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_characters="<\u2581"),
    min_size=1,
)


@settings(deadline=None)
@given(text=printable)
def test_text_survives_the_way_to_ids_and_back(text: str) -> None:
    assert LLAMA.decode(LLAMA.encode(text)) == text


def test_user_defined_pieces_are_single_ids_behind_the_control_pieces() -> None:
    assert [LLAMA.token_id(token) for token in ("<unk>", "<s>", "</s>")] == [0, 1, 2]
    assert LLAMA.encode("<extra_id_4><extra_id_3><extra_id_3><extra_id_5>")[-4:] == [7, 6, 6, 8]
    assert LLAMA.token_text(7) == "<extra_id_4>"
    assert LLAMA.decode([7, 0, 8]) == "<extra_id_4> \u2047 <extra_id_5>"


def test_nothing_is_added_in_front() -> None:
    assert LLAMA.encode("a car", add_special_tokens=True) == LLAMA.encode("a car")
    assert not LLAMA.adds_bos
    assert (LLAMA.bos_id, LLAMA.eos_id) == (1, 2)


def test_unknown_spellings_and_ids_are_none() -> None:
    assert LLAMA.token_id("<extra_id_99>") is None
    assert LLAMA.token_text(LLAMA.vocab_size) is None
    assert LLAMA.token_text(-1) is None


def test_an_answer_keeps_the_space_that_it_has_in_its_prompt() -> None:
    context, ids = LLAMA.encode("ASSISTANT:"), LLAMA.encode("Hand")
    assert LLAMA.decode(ids) == "Hand"
    assert LLAMA.decode_behind(context, ids) == " Hand"
    assert LLAMA.decode_behind(context, []) == ""


@settings(deadline=None)
@given(context=printable, answer=printable)
def test_what_is_decoded_behind_a_context_completes_it(context: str, answer: str) -> None:
    ids = LLAMA.encode(context + answer)
    for cut in range(len(ids)):
        before = LLAMA.decode(ids[:cut])
        if (context + answer).startswith(before):  # not inside a character
            assert before + LLAMA.decode_behind(ids[:cut], ids[cut:]) == context + answer


def test_legacy_special_tokens_stand_behind_the_files_own() -> None:
    num_pieces = LEGACY.vocab_size - len(EXTRA_IDS)
    assert [LEGACY.token_id(token) for token in EXTRA_IDS] == list(
        range(num_pieces, num_pieces + 8)
    )
    ids = LEGACY.encode("a car<extra_id_1>a hand")
    assert ids == [*LEGACY.encode("a car"), num_pieces + 1, *LEGACY.encode("a hand")]
    assert LEGACY.decode(ids) == "a car <extra_id_1> a hand"
    assert LEGACY.token_text(num_pieces + 1) == "<extra_id_1>"


def test_a_token_that_the_file_has_is_not_added_again() -> None:
    again = SentencePieceTokenizer.from_bytes(
        sentencepiece_model(), "tokenizer.model", (*EXTRA_IDS, "<mine>"), legacy=True
    )
    assert again.vocab_size == LLAMA.vocab_size + 1
    assert again.token_id("<extra_id_4>") == 7


def test_special_tokens_without_legacy_are_refused_as_the_original_refuses_them() -> None:
    with pytest.raises(ConfigError, match="sentencepiece_legacy") as caught:
        SentencePieceTokenizer.from_bytes(sentencepiece_model(), "x.model", ("<mine>",))
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.model"
    with pytest.raises(ConfigError, match=r"has no tokenizer\.model"):
        SentencePieceTokenizer.from_file(file)
    file.write_bytes(b"\x0b no model")
    with pytest.raises(ConfigError, match="sentencepiece model") as caught:
        SentencePieceTokenizer.from_file(file)
    assert caught.value.reason is Reason.INVALID_CHECKPOINT
    file.write_bytes(sentencepiece_model())
    assert SentencePieceTokenizer.from_file(file).vocab_size == LLAMA.vocab_size
