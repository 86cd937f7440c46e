"""Whoever is vouched for must fit: for real tokenizers, and texts of all kinds."""

from __future__ import annotations

import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers

from neva.errors import RowError
from neva.model_files import find_model, small_model_files
from neva.row_prompt import RowPrompts
from neva.token_bounds import MARGIN_TOKENS, plain_length
from neva.tokens import JsonTokenizer, Tokenizer
from tests.controller.test_start import job


def llama_like(space_is_known: bool) -> Tokenizer:
    """Byte fallback without any merges: as many tokens as there can be."""
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))] + ["\u2581"] * space_is_known
    vocab = {token: n for n, token in enumerate(tokens)}
    model = models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return JsonTokenizer(backend)


def byte_level() -> Tokenizer:
    alphabet = {c: n for n, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = tokenizers.Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    backend.decoder = decoders.ByteLevel()
    return JsonTokenizer(backend)


@pytest.mark.parametrize(
    "tokenizer", [llama_like(True), llama_like(False), byte_level()], ids=["llama", "bytes", "gpt"]
)
@given(text=st.text(max_size=40) | st.sampled_from(["\ufdfa" * 5, "İ" * 9, "12 34", " " * 20]))
def test_no_text_has_more_tokens_than_its_bound(tokenizer: Tokenizer, text: str) -> None:
    most = tokenizer.tokens_per_character
    assert most is not None
    assert len(tokenizer.encode(text)) <= most * plain_length(text) + MARGIN_TOKENS


def test_an_unknown_kind_of_tokenizer_has_no_bound() -> None:
    backend = tokenizers.Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    backend.normalizer = normalizers.Replace("a", "aaaa")
    assert JsonTokenizer(backend).tokens_per_character is None


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> RowPrompts:
    spec = job(tmp_path_factory.mktemp("model")).spec
    with small_model_files(find_model(spec.model)) as model:
        return RowPrompts(spec, model.profile(), model.tokenizer())


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(
    st.lists(st.text(max_size=60) | st.sampled_from(["<image>", "a<image>", "x" * 700]), min_size=1)
)
def test_what_is_refused_is_what_can_not_be_built(prompts: RowPrompts, texts: list[str]) -> None:
    refused = prompts.refused(texts)
    for n, text in enumerate(texts):
        try:
            prompts.build(text)
        except RowError as error:
            assert str(refused[n]) == str(error)
        else:
            assert n not in refused
