"""From a question to an answer's tokens with the tokenizers and templates of NeMo checkpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers

from neva.local_model import LocalModel
from neva.row_prompt import RowPrompts
from tests.neva.jobs import job_spec
from tests.neva.sentencepiece_model import EXTRA_IDS, sentencepiece_model
from tests.worker.checkpoint.nemo_writer import (
    TOKENIZER_ARTIFACT,
    Nemo,
    config_of,
    language_tensors,
    pack,
    projector_tensors,
    write_tower,
)
from tests.worker.engine.models import IMAGE_SIZE, TinyLlava, make_llava, write_media
from tests.worker.engine.rank_functions import Setup, generate
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import GenerateRequest, GenerateResult, SamplingParams

VOCABULARY = 512
NUM_NEW_TOKENS = 12
QUESTION = "Who opens the box?"
TEXTS = [
    "A chat between a curious user and an artificial intelligence assistant.",
    "You are a helpful language and vision assistant. Who opens the box? a red car",
]
LLAMA_3_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    *(f"<|reserved_special_token_{number}|>" for number in range(6)),
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
YI_TOKENS = ("<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", *EXTRA_IDS)


def byte_level(special_tokens: tuple[str, ...]) -> Backend:
    """A small byte-level BPE, trained in a moment."""
    tokenizer = Backend(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


@dataclass(frozen=True)
class Kind:
    """A checkpoint's tokenizer and what its config says of prompts.

    Attributes:
        files: the tokenizer's artifacts.
        patch: spelling of the patch token.
    """

    template: str
    model_type: str
    tokenizer: dict[str, Any]
    files: dict[str, bytes]
    patch: str = "<extra_id_3>"
    use_im_start_end: bool = False


def sentencepiece_kind(template: str, use_im_start_end: bool) -> Kind:
    config = {"library": "sentencepiece", "model": "nemo:hash_tokenizer.model"}
    files = {"hash_tokenizer.model": sentencepiece_model()}
    return Kind(template, "nvgpt", config, files, use_im_start_end=use_im_start_end)


def json_kind(template: str, model_type: str, tokens: tuple[str, ...], patch: str) -> Kind:
    config = {"library": "huggingface", "type": "some/model"}
    files = {"tokenizer.json": byte_level(tokens).to_str().encode()}
    return Kind(template, model_type, config, files, patch)


def bpe_kind() -> Kind:
    tokenizer = byte_level(("<|endoftext|>",))
    lines = [" ".join(pair) for pair in _model_of(tokenizer)["merges"]]
    config = {
        "library": "megatron",
        "type": "GPT2BPETokenizer",
        "vocab_file": "nemo:hash_vocab.json",
        "merge_file": "nemo:hash_merges.txt",
        "additional_special_tokens": list(EXTRA_IDS),
    }
    files = {
        "hash_vocab.json": _json(_model_of(tokenizer)["vocab"]),
        "hash_merges.txt": "\n".join(["#version: 0.2", *lines]).encode(),
    }
    return Kind("nv_dpo", "nvgpt", config, files)


def _model_of(tokenizer: Backend) -> Any:
    return json.loads(tokenizer.to_str())["model"]


def _json(data: Any) -> bytes:
    return json.dumps(data).encode()


KINDS = {
    "sentencepiece, markers overwritten": lambda: sentencepiece_kind("nv_steerlm", False),
    "sentencepiece, markers kept": lambda: sentencepiece_kind("nv_steerlm", True),
    "sentencepiece, surrogates": lambda: sentencepiece_kind("mistral", False),
    "llama_3": lambda: json_kind(
        "llama_3", "llama_3", LLAMA_3_TOKENS, "<|reserved_special_token_3|>"
    ),
    "yi_34b": lambda: json_kind("yi_34b", "nvgpt", YI_TOKENS, "<extra_id_3>"),
    "vocabulary and merges": bpe_kind,
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyLlava, Path]:
    """A LLaVA whose vocabulary has room for all the tokenizers, and its tower."""
    directory = tmp_path_factory.mktemp("answers")
    model = make_llava(directory / "hf", vocab_size=VOCABULARY, max_position_embeddings=1024)
    return model, write_tower(model.reference, directory / "tower")


def write(kind: Kind, model: TinyLlava, directory: Path) -> Path:
    """As a .nemo file."""
    reference = model.reference
    config = config_of(reference)
    config["tokenizer"] = kind.tokenizer
    config["mm_cfg"]["llm"]["model_type"] = kind.model_type
    config["mm_cfg"]["use_im_start_end"] = kind.use_im_start_end
    config["data"]["conv_template"] = kind.template
    tensors = language_tensors(reference) | projector_tensors(reference)
    nemo = Nemo(config, tensors, layout="mp_rank", tp=2, vocab_size=VOCABULARY, files=kind.files)
    nemo.write(directory / "unpacked")
    (directory / "unpacked" / TOKENIZER_ARTIFACT).unlink()
    return pack(directory / "unpacked", directory / "model.nemo")


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize("name", KINDS)
def test_answers_are_those_of_transformers_for_the_written_out_prompt(
    name: str, origin: tuple[TinyLlava, Path], pool: RankPool, tmp_path: Path
) -> None:
    """The expected ids are those of the whole text, every patch written out."""
    kind = KINDS[name]()
    reference, tower = origin
    path = write(kind, reference, tmp_path)
    model = LocalModel(path, vision=tower)
    tokenizer, profile = model.tokenizer(), model.profile()
    assert tokenizer.vocab_size < VOCABULARY
    prompts = RowPrompts(job_spec(insert_media_token="left"), profile, tokenizer)
    prompt = prompts.build(QUESTION)
    assert prompt.num_media_tokens == 2 * 16
    media = write_media(tmp_path / "media", num_frames=2, seed=3)
    request = GenerateRequest(
        request_id="row",
        row_key="row",
        before_ids=prompt.before_ids,
        num_media_tokens=prompt.num_media_tokens,
        after_ids=prompt.after_ids,
        media=media,
        sampling=SamplingParams(greedy=True, max_new_tokens=NUM_NEW_TOKENS),
    )
    setup = Setup(path, vision_encoder=tower)
    result = same_on_all(pool.run(generate, setup, [request]))["row"]
    assert isinstance(result, GenerateResult)

    ids = written_out_ids(kind, prompt.text_with_tag, tokenizer.encode, tokenizer.token_id)
    expected = greedy_ids(reference, ids, media.path, tokenizer.vocab_size, profile.eos_token_ids)
    assert list(result.token_ids) == expected
    answer = prompts.template.clean(tokenizer.decode(result.token_ids))
    assert answer == prompts.template.clean(tokenizer.decode(expected))
    assert answer


def written_out_ids(kind: Kind, text_with_tag: str, encode: Any, token_id: Any) -> list[int]:
    """The original's: placeholders in the text, their places then taken by the features."""
    num_features = 2 * 16
    start, end = (kind.patch.replace("3", digit) for digit in "45")
    num_patches = num_features if kind.use_im_start_end else num_features - 2
    ids: list[int] = encode(
        text_with_tag.replace("<video>", start + kind.patch * num_patches + end)
    )
    last = ids.index(token_id(end))
    first = last - num_features + (0 if kind.use_im_start_end else 1)
    ids[first : first + num_features] = [VOCABULARY - 1] * num_features
    surrogates = {token_id("<extra_id_6>"): 1, token_id("<extra_id_7>"): 2}
    return [surrogates.get(i, i) if kind.template == "mistral" else i for i in ids]


def greedy_ids(
    model: TinyLlava, ids: list[int], pixels: str, num_ids: int, eos_ids: tuple[int, ...]
) -> list[int]:
    """transformers' answer without its end; it may only use the tokenizer's ids."""
    shape = (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    inputs = torch.tensor([ids])
    with torch.inference_mode():
        found = model.reference.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            pixel_values=torch.from_file(pixels, size=2 * 3 * IMAGE_SIZE**2).reshape(shape),
            max_new_tokens=NUM_NEW_TOKENS,
            do_sample=False,
            eos_token_id=list(eos_ids),
            pad_token_id=0,
            suppress_tokens=list(range(num_ids, VOCABULARY)),
        )
    answer: list[int] = found[0, len(ids) :].tolist()
    return answer[:-1] if answer[-1] in eos_ids else answer
