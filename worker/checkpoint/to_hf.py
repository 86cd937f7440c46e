"""From a NeMo 1 checkpoint, its base and its tower to one Hugging Face LLaVA directory."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlavaConfig, Qwen2Config

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.model_profile import ModelProfile
from neva.nemo_config import NemoConfig
from neva.nemo_tokenizer import read_nemo_tokenizer_file
from neva.reasons import Reason
from neva.tokens import TOKENIZER_FILE
from worker.checkpoint.base import Checkpoint
from worker.checkpoint.hf_llava_layout import expected_shapes
from worker.checkpoint.nemo_rotary import (
    LLAMA_3_FACTOR,
    LLAMA_3_HIGH_FREQUENCY,
    LLAMA_3_LOW_FREQUENCY,
    LLAMA_3_OLD_CONTEXT,
)
from worker.checkpoint.open import open_checkpoint
from worker.engine.architecture import LlavaShape

_LARGEST_FILE_BYTES = 4 << 30
_JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS  # transformers has labels by number


def convert_to_hf(model: LocalModel, directory: Path) -> None:
    """Write the model as `LlavaForConditionalGeneration`; adapters are merged in.

    Raises:
        ConfigError: the checkpoint is not complete, or Hugging Face's LLaMA can't be it.
    """
    if directory.exists():
        raise ConfigError(f"{directory} exists already; remove it, or write elsewhere")
    archive, base = model.archives()
    profile = model.profile()
    config = NemoConfig.read(archive)
    unfinished = directory.with_name(f".{directory.name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True)
    try:
        with open_checkpoint(model) as checkpoint:
            _refuse_what_llava_has_not(checkpoint.shape, config)
            llava = _llava_config(checkpoint.shape, config, profile)
            _write_json(unfinished / "config.json", llava)
            _write_weights(unfinished, checkpoint)
        _write_json(
            unfinished / "generation_config.json", {"eos_token_id": list(profile.eos_token_ids)}
        )
        _write_json(unfinished / "preprocessor_config.json", _preprocessor(profile))
        (unfinished / TOKENIZER_FILE).write_bytes(read_nemo_tokenizer_file(archive, base))
        unfinished.rename(directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _refuse_what_llava_has_not(shape: LlavaShape, config: NemoConfig) -> None:
    text, language = shape.language, config.language()
    even_dim = text.hidden_size // text.num_heads
    problems = [
        words
        for wrong, words in (
            (text.norm != "rmsnorm", f"normalization {text.norm}"),
            (not text.gated or text.activation != "silu", f"activation {text.activation}"),
            (text.rotary_size not in (None, text.head_dim), "a partial rotary embedding"),
            (
                language.rotary_is_scaled and language.rotary_interpolation != 1.0,
                "two scalings of the rotary embedding",
            ),
            (
                text.qkv_bias and not text.output_bias and text.head_dim != even_dim,
                "heads of another size beside biases of queries, keys and values",
            ),
            (shape.vision.projector != "mlp2x_gelu", f"projector {shape.vision.projector}"),
        )
        if wrong
    ]
    if problems:
        raise ConfigError(
            f"{config.where}: no LLaMA with LLaVA's projector: {', '.join(problems)}",
            reason=Reason.UNSUPPORTED_MODEL,
        )


def _llava_config(shape: LlavaShape, nemo: NemoConfig, profile: ModelProfile) -> dict[str, Any]:
    text, vision, language = shape.language, shape.vision, nemo.language()
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": language.rotary_base}
    if language.rotary_interpolation != 1.0:
        rope |= {"rope_type": "linear", "factor": language.rotary_interpolation}
    if language.rotary_is_scaled:
        rope |= {
            "rope_type": "llama3",
            "factor": LLAMA_3_FACTOR,
            "low_freq_factor": LLAMA_3_LOW_FREQUENCY,
            "high_freq_factor": LLAMA_3_HIGH_FREQUENCY,
            "original_max_position_embeddings": LLAMA_3_OLD_CONTEXT,
        }
    # Biases on queries, keys and values alone are Qwen2's.
    text_config: Any = partial(LlamaConfig, attention_bias=text.output_bias, mlp_bias=text.mlp_bias)
    if text.qkv_bias and not text.output_bias:
        text_config = Qwen2Config
    config = LlavaConfig(
        text_config=text_config(
            vocab_size=text.vocab_size,
            hidden_size=text.hidden_size,
            intermediate_size=text.ffn_size,
            num_hidden_layers=text.num_layers,
            num_attention_heads=text.num_heads,
            num_key_value_heads=text.num_kv_heads,
            head_dim=text.head_dim,
            max_position_embeddings=text.context_tokens,
            rms_norm_eps=text.norm_epsilon,
            rope_parameters=rope,
            tie_word_embeddings=text.ties_embeddings,
            bos_token_id=profile.bos_token_id,
            eos_token_id=list(profile.eos_token_ids),
        ),
        vision_config=vision.tower,
        image_token_index=profile.image_token_id,
        vision_feature_layer=vision.num_layers_used - vision.tower.num_hidden_layers - 1,
        vision_feature_select_strategy="default" if vision.num_dropped else "full",
        tie_word_embeddings=text.ties_embeddings,
    )
    config.architectures = ["LlavaForConditionalGeneration"]
    found: dict[str, Any] = config.to_dict()
    return found | {"num_frames": profile.num_frames}


def _preprocessor(profile: ModelProfile) -> dict[str, Any]:
    height, width = profile.crop_size
    statistics = {"image_mean": profile.image_mean, "image_std": profile.image_std}
    if profile.resize_mode == "exact":
        size = {"height": height, "width": width}
        return {"image_processor_type": "SiglipImageProcessor", "size": size} | statistics
    return statistics | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": profile.resize_shortest_edge},
        "crop_size": {"height": height, "width": width},
    }


def _write_weights(directory: Path, checkpoint: Checkpoint) -> None:
    """As many safetensors files as it takes; only one file's tensors are in memory."""
    files: list[list[str]] = []
    pending: dict[str, torch.Tensor] = {}
    total_bytes = pending_bytes = 0

    def flush() -> None:
        nonlocal pending_bytes
        save_file(pending, directory / f"part-{len(files)}", metadata={"format": "pt"})
        files.append(list(pending))
        pending.clear()
        pending_bytes = 0

    for name in expected_shapes(checkpoint.shape):
        rows = slice(None)
        if name in ("lm_head.weight", "language_model.embed_tokens.weight"):
            rows = slice(checkpoint.shape.language.vocab_size)  # without padding
        tensor = checkpoint.weights.read(name, rows).contiguous()
        if pending and pending_bytes + tensor.nbytes > _LARGEST_FILE_BYTES:
            flush()
        pending[name if name.startswith("lm_head.") else f"model.{name}"] = tensor
        pending_bytes += tensor.nbytes
        total_bytes += tensor.nbytes
    flush()
    if len(files) == 1:
        (directory / "part-0").rename(directory / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    for number, names in enumerate(files):
        file = f"model-{number + 1:05d}-of-{len(files):05d}.safetensors"
        (directory / f"part-{number}").rename(directory / file)
        weight_map |= dict.fromkeys(names, file)
    _write_json(
        directory / "model.safetensors.index.json",
        {"metadata": {"total_size": total_bytes}, "weight_map": weight_map},
    )


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_bytes(orjson.dumps(data, option=_JSON_OPTIONS, default=str))
