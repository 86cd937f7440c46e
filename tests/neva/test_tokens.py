from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neva.errors import ConfigError
from neva.reasons import Reason
from neva.tokens import JsonTokenizer, Tokenizer
from tests.neva.tiny_llava import NUM_SPECIAL, byte_tokenizer, write_model_dir

BYTES = JsonTokenizer(byte_tokenizer())


@settings(deadline=None)
@given(text=st.text().filter(lambda text: "<" not in text))
def test_text_survives_the_way_to_ids_and_back(text: str) -> None:
    assert BYTES.decode(BYTES.encode(text)) == text


def test_special_tokens_are_single_ids_and_hidden_in_text() -> None:
    ids = BYTES.encode("a</s>")
    assert ids[1] == BYTES.token_id("</s>")
    assert BYTES.decode(ids) == "a"
    assert BYTES.decode(ids, skip_special_tokens=False) == "a</s>"


def test_the_vocabulary_counts_added_tokens() -> None:
    assert BYTES.vocab_size == NUM_SPECIAL + 256
    assert BYTES.token_id("nothing") is None
    assert BYTES.token_text(BYTES.vocab_size) is None


def test_a_tokenizer_that_adds_bos_says_so(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_directory(write_model_dir(tmp_path, adds_bos=True))
    assert tokenizer.adds_bos
    assert tokenizer.encode("a") == tokenizer.encode("a", add_special_tokens=True)[1:]
    assert not BYTES.adds_bos


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no tokenizer") as caught:
        Tokenizer.from_directory(tmp_path)
    assert caught.value.reason is Reason.INVALID_CHECKPOINT


def test_truncation_and_padding_left_over_from_training_are_off(tmp_path: Path) -> None:
    leftover = byte_tokenizer()
    leftover.enable_truncation(max_length=4)
    leftover.enable_padding(length=64, pad_token="<pad>", pad_id=3)
    leftover.save(str(tmp_path / "tokenizer.json"))
    assert len(Tokenizer.from_directory(tmp_path).encode("sixteen letters!")) == 16
