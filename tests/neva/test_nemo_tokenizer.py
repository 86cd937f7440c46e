"""Tokenizers as NeMo packs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from neva.archive import unpack
from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.nemo_tokenizer import read_nemo_tokenizer_file
from neva.reasons import Reason
from neva.tokens import JsonTokenizer
from tests.neva.nemo_directory import ARTIFACT, nemo_config, pack, write_clip, write_nemo
from tests.neva.sentencepiece_model import EXTRA_IDS, sentencepiece_model

HASH = "0123456789abcdef0123456789abcdef_"
VOCABULARY, MERGES, MODEL = (HASH + name for name in ("vocab.json", "merges.txt", "spm.model"))
# Space is written as \u0120 in a byte-level vocabulary.
PIECES = ["h", "a", "n", "d", "\u0120", "an", "and", "hand", "\u0120hand", "!", "<|endoftext|>"]
MERGE_LINES = "#version: 0.2\na n\nan d\nh and\n\u0120 hand\n"


def write_bpe(
    directory: Path, special: Any = None, pieces: list[str] = PIECES, merges: str = MERGE_LINES
) -> Path:
    config = nemo_config()
    config["tokenizer"] = {
        "library": "megatron",
        "type": "GPT2BPETokenizer",
        "model": None,
        "vocab_file": f"nemo:{VOCABULARY}",
        "merge_file": f"nemo:{MERGES}",
        "additional_special_tokens": list(EXTRA_IDS) if special is None else special,
    }
    write_nemo(directory, config)
    (directory / ARTIFACT).unlink()
    (directory / VOCABULARY).write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (directory / MERGES).write_text(merges)
    return directory


def test_vocabulary_and_merges_are_gpt2s_tokenizer(tmp_path: Path) -> None:
    directory = write_bpe(tmp_path / "nemo")
    file = pack(directory, tmp_path / "m.nemo")
    model = LocalModel(file, vision=write_clip(tmp_path / "clip"))
    tokenizer = model.tokenizer()
    ids = tokenizer.encode("hand<extra_id_4>and hand!<|endoftext|>")
    assert ids == [7, 15, 6, 8, 9, 10]
    assert tokenizer.decode(ids, skip_special_tokens=False) == (
        "hand<extra_id_4>and hand!<|endoftext|>"
    )
    assert tokenizer.decode(ids) == "handand hand!"
    profile = model.profile()
    assert (profile.vocab_size, profile.image_token_id) == (19, 14)
    assert profile.eos_token_ids == (10,)
    assert profile.bos_token_id is None


def test_special_tokens_of_the_vocabulary_keep_their_ids(tmp_path: Path) -> None:
    directory = write_bpe(tmp_path / "nemo", special=[], pieces=[*PIECES, *EXTRA_IDS])
    model = LocalModel(directory, vision=write_clip(tmp_path / "clip"))
    assert model.tokenizer().encode("hand<extra_id_0>") == [7, 11]
    assert model.profile().image_token_id == 14


def test_it_becomes_a_tokenizer_json_that_encodes_alike(tmp_path: Path) -> None:
    model = LocalModel(write_bpe(tmp_path / "nemo"))
    archive, _ = model.archives()
    written = JsonTokenizer.from_bytes(read_nemo_tokenizer_file(archive), "tokenizer.json")
    text = "hand<extra_id_4>and hand!"
    assert written.encode(text) == model.tokenizer().encode(text)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (VOCABULARY, "{"),
        (VOCABULARY, "[]"),
        (VOCABULARY, '{"a": "b"}'),
        (MERGES, "a n d\n"),
        (MERGES, "x y\n"),
        (MERGES, "\udcff"),
    ],
)
def test_files_that_are_no_bpe_are_refused(name: str, content: str, tmp_path: Path) -> None:
    directory = write_bpe(tmp_path / "nemo")
    (directory / name).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match="byte-level BPE") as raised:
        LocalModel(directory).tokenizer()
    assert raised.value.reason is Reason.INVALID_CHECKPOINT
    assert VOCABULARY in raised.value.message


def test_a_vocabulary_without_its_merges_is_no_tokenizer(tmp_path: Path) -> None:
    directory = write_bpe(tmp_path / "nemo")
    (directory / MERGES).unlink()
    with pytest.raises(ConfigError, match=r"brings no tokenizer .*GPT2BPETokenizer"):
        LocalModel(directory).tokenizer()


# ---- sentencepiece ----


def write_sentencepiece(directory: Path, **tokenizer: Any) -> Path:
    config = nemo_config()
    config["tokenizer"] = {"library": "sentencepiece", "model": f"nemo:{MODEL}", **tokenizer}
    write_nemo(directory, config)
    (directory / ARTIFACT).unlink()
    pieces = () if "additional_special_tokens" in tokenizer else EXTRA_IDS
    (directory / MODEL).write_bytes(sentencepiece_model(pieces))
    return directory


@pytest.mark.parametrize("kind", ["tar", "gzip", "directory"])
def test_a_sentencepiece_model_is_read_wherever_the_checkpoint_lies(
    kind: str, tmp_path: Path
) -> None:
    path = write_sentencepiece(tmp_path / "nemo")
    if kind == "tar":
        path = pack(path, tmp_path / "m.nemo")
    if kind == "gzip":
        path = unpack(pack(path, tmp_path / "m.nemo", compress=True), tmp_path / "unpacked")
    model = LocalModel(path, vision=write_clip(tmp_path / "clip"))
    tokenizer, profile = model.tokenizer(), model.profile()
    assert tokenizer.encode("<extra_id_4>")[-1] == tokenizer.token_id("<extra_id_4>") == 7
    assert (profile.image_token_id, profile.eos_token_ids, profile.bos_token_id) == (6, (2,), 1)
    assert not profile.add_bos
    assert profile.vocab_size == tokenizer.vocab_size


def test_legacy_special_tokens_stand_behind_the_models_own_pieces(tmp_path: Path) -> None:
    listed = dict(enumerate(EXTRA_IDS))
    directory = write_sentencepiece(
        tmp_path / "nemo",
        sentencepiece_legacy=True,
        additional_special_tokens={f"token_{i}": text for i, text in listed.items()},
    )
    model = LocalModel(directory, vision=write_clip(tmp_path / "clip"))
    tokenizer = model.tokenizer()
    num_own = tokenizer.vocab_size - 8
    assert model.profile().image_token_id == num_own + 3
    assert tokenizer.encode("<extra_id_0>a") == [num_own, *tokenizer.encode("a")]


def test_a_sentencepiece_model_is_no_tokenizer_json(tmp_path: Path) -> None:
    archive, _ = LocalModel(write_sentencepiece(tmp_path / "nemo")).archives()
    with pytest.raises(ConfigError, match=r"put a tokenizer\.json") as raised:
        read_nemo_tokenizer_file(archive)
    assert raised.value.reason is Reason.UNSUPPORTED_MODEL
