"""Tiny random LLaVA directories, and Hugging Face's own answers for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    NemotronConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from worker.engine.protocol import GenerateRequest, MediaRef, SamplingParams

IMAGE_SIZE = 32
PATCHES_PER_FRAME = 16
EOS_ID = 2

TextModel = Literal["llama", "mistral", "nemotron", "qwen2"]
_TEXT_CONFIGS: dict[TextModel, Any] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "nemotron": NemotronConfig,
    "qwen2": Qwen2Config,
}
_TOWER_CONFIGS: dict[str, Any] = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}


@dataclass(frozen=True)
class TinyLlava:
    """A model directory, with the Hugging Face model that was saved there."""

    directory: Path
    reference: Any  # LlavaForConditionalGeneration
    vocab_size: int

    @property
    def image_token_id(self) -> int:
        return self.vocab_size - 1


def make_llava(
    directory: Path,
    *,
    num_kv_heads: int = 2,
    vocab_size: int = 1000,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    exist_ok: bool = False,
    text_model: TextModel = "llama",
    tower: Literal["clip", "siglip"] = "clip",
    vision_feature_layer: int = -2,
    **text_overrides: Any,
) -> TinyLlava:
    """Save a random model with everything a Hugging Face LLaVA directory has."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=_TOWER_CONFIGS[tower](
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=8,
        ),
        text_config=_TEXT_CONFIGS[text_model](
            **{
                "vocab_size": vocab_size,
                "hidden_size": 128,
                "intermediate_size": 512,
                "num_hidden_layers": 3,
                "num_attention_heads": 8,
                "num_key_value_heads": num_kv_heads,
                "max_position_embeddings": 256,
                "initializer_range": 0.1,
                "eos_token_id": EOS_ID,
                **text_overrides,
            }
        ),
        image_token_index=vocab_size - 1,
        vision_feature_layer=vision_feature_layer,
        vision_feature_select_strategy="default" if tower == "clip" else "full",
    )
    model: Any = LlavaForConditionalGeneration(config)
    model.eval()
    is_plain = text_model == "llama" and not {"attention_bias", "mlp_bias"} & text_overrides.keys()
    for parameter in model.parameters():  # not the buffers: those are never stored
        if not is_plain and parameter.dim() == 1:  # norms and biases apart from their usual start
            parameter.data += 0.3 * torch.randn_like(parameter)
        parameter.data = parameter.data.to(dtype).float()
    directory.mkdir(parents=True, exist_ok=exist_ok)
    config.architectures = ["LlavaForConditionalGeneration"]
    config.save_pretrained(directory)
    tensors = {name: t.to(dtype).contiguous() for name, t in model.state_dict().items()}
    if config.tie_word_embeddings:
        del tensors["lm_head.weight"]
    save_file(tensors, directory / "model.safetensors")
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    steps: dict[str, Any] = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": square}
    if tower == "siglip":
        steps = {"image_processor_type": "SiglipImageProcessor", "size": square}
    steps |= {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (directory / "preprocessor_config.json").write_text(json.dumps(steps))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": EOS_ID}))
    words = WordLevel({f"w{i}": i for i in range(vocab_size)}, unk_token="w0")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.save(str(directory / "tokenizer.json"))
    return TinyLlava(directory, model, vocab_size)


def write_media(path: Path, num_frames: int, seed: int) -> MediaRef:
    """A pixel file of random frames."""
    shape = (num_frames, 3, IMAGE_SIZE, IMAGE_SIZE)
    np.random.default_rng(seed).standard_normal(shape).astype(np.float32).tofile(path)
    return MediaRef(key=path.name, path=str(path), shape=shape)


def make_request(
    name: str,
    num_text_tokens: int,
    *,
    media: MediaRef | None = None,
    seed: int = 0,
    vocab_size: int = 1000,
    sampling: SamplingParams | None = None,
) -> GenerateRequest:
    """Random text, the media three tokens from its start."""
    generator = np.random.default_rng([seed, num_text_tokens, len(name)])
    ids = tuple(int(i) for i in generator.integers(3, vocab_size - 1, num_text_tokens))
    return GenerateRequest(
        request_id=name,
        row_key=name,
        before_ids=ids[:3],
        num_media_tokens=0 if media is None else media.shape[0] * PATCHES_PER_FRAME,
        after_ids=ids[3:],
        media=media,
        sampling=sampling or SamplingParams(greedy=True, max_new_tokens=32),
    )


@torch.inference_mode()
def reference_answer(
    model: TinyLlava, request: GenerateRequest
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Hugging Face's last logits (vocabulary,) and greedy tokens for one row alone."""
    media_ids = (model.image_token_id,) * request.num_media_tokens
    ids = torch.tensor([[*request.before_ids, *media_ids, *request.after_ids]])
    inputs: dict[str, torch.Tensor] = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
    }
    if request.media is not None:
        pixels = np.fromfile(request.media.path, dtype=np.float32)
        inputs["pixel_values"] = torch.from_numpy(pixels.reshape(request.media.shape))
    logits = model.reference(**inputs).logits[0, -1]
    generated = model.reference.generate(
        **inputs,
        max_new_tokens=request.sampling.max_new_tokens,
        do_sample=False,
        eos_token_id=EOS_ID,
        pad_token_id=0,
    )
    tokens = generated[0, ids.size(1) :].tolist()
    return logits, tuple(tokens[:-1] if tokens[-1] == EOS_ID else tokens)
