"""From a Hugging Face LLaVA to NeMo 1: a finetuned NeVA, or a projector and its base model.

NeMo has no place for the vision tower: it becomes a directory of its own. What a NeMo config can't
say of a Hugging Face model (its placeholder, its ends, whether it wants BOS) stands in the section
`neva_batch`, so that the converted model answers as the original.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import torch
from safetensors.torch import save_file
from transformers import LlavaConfig

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.model_profile import ModelProfile
from neva.nemo_profile import OWN_SECTION
from neva.reasons import Reason
from neva.tokens import TOKENIZER_FILE
from worker.checkpoint.base import Checkpoint, Weights
from worker.checkpoint.hf_llava import open_llava
from worker.checkpoint.hf_llava_layout import tower_shapes
from worker.checkpoint.nemo_names import projector_names
from worker.checkpoint.nemo_output import NemoOutput, WeightsFormat
from worker.checkpoint.nemo_rotary import (
    LLAMA_3_FACTOR,
    LLAMA_3_HIGH_FREQUENCY,
    LLAMA_3_LOW_FREQUENCY,
    LLAMA_3_OLD_CONTEXT,
)
from worker.checkpoint.nemo_views import qkv_blocks
from worker.engine.architecture import LanguageShape
from worker.engine.language_model import padded_vocab_size

Kind = Literal["finetuned", "projector"]
Named = Iterator[tuple[str, torch.Tensor]]

_TARGET = "nemo.collections.multimodal.models.multimodal_llm.neva.neva_model.MegatronNevaModel"
_GPT_TARGET = "nemo.collections.nlp.models.language_modeling.megatron_gpt_model.MegatronGPTModel"


@dataclass(frozen=True, slots=True)
class NemoPaths:
    """What is written: .nemo files, or directories where a name does not end so."""

    model: Path
    vision: Path
    base: Path | None = None


def convert_to_nemo(
    directory: Path, paths: NemoPaths, weights_format: WeightsFormat, template: str
) -> None:
    """Write a finetuned NeVA, or with `paths.base` a projector and its base model.

    Raises:
        ConfigError: the directory is no complete LLaVA, or has what NeMo can't express.
    """
    for path in (paths.model, paths.base, paths.vision):
        if path is not None and path.exists():
            raise ConfigError(f"{path} exists already; remove it, or write elsewhere")
    profile = LocalModel(directory).profile()
    config = LlavaConfig.from_dict(orjson.loads((directory / "config.json").read_bytes()))
    with open_llava(directory) as checkpoint:
        _refuse_what_nemo_has_not(directory, config, checkpoint)
        language = _language_config(config, checkpoint.shape.language)
        tokenizer = (directory / TOKENIZER_FILE).read_bytes()
        artifact = f"{hashlib.md5(tokenizer, usedforsecurity=False).hexdigest()}_{TOKENIZER_FILE}"
        language["tokenizer"] = {"library": "huggingface", "model": f"nemo:{artifact}"}
        media = _media_config(profile, checkpoint, template, paths.base)
        projector = list(_projector_tensors(checkpoint))
        with NemoOutput(paths.model, {artifact: tokenizer}) as output:
            output.write_config({**language, **media, "target": _TARGET})
            if paths.base is None:
                output.write_weights(
                    dict([*_language_tensors(checkpoint), *projector]), weights_format
                )
            else:
                # NeMo itself writes what is not a whole model in the older way.
                output.write_weights(dict(projector), "legacy")
        if paths.base is not None:
            with NemoOutput(paths.base, {artifact: tokenizer}) as output:
                output.write_config({**language, "target": _GPT_TARGET})
                output.write_weights(dict(_language_tensors(checkpoint)), weights_format)
        _write_tower(directory, paths.vision, checkpoint)


def _refuse_what_nemo_has_not(directory: Path, config: Any, checkpoint: Checkpoint) -> None:
    rope = config.text_config.rope_parameters
    text, vision = checkpoint.shape.language, checkpoint.shape.vision
    problems = []
    if rope["rope_type"] not in ("default", "linear") and not _is_llama_3(rope):
        problems.append(f"a rotary embedding of type {rope['rope_type']!r} with its numbers")
    if text.output_bias != text.mlp_bias:
        problems.append("biases on attention's output or on the MLP alone")
    if not vision.projector_bias:
        problems.append("a projector without biases")
    if vision.num_dropped > vision.num_class_tokens:
        problems.append("a SigLIP whose first patch is left out")
    if problems:
        raise ConfigError(
            f"{directory} can't be a NeMo checkpoint: {', '.join(problems)}",
            reason=Reason.UNSUPPORTED_MODEL,
        )


def _is_llama_3(rope: dict[str, Any]) -> bool:
    """Llama 3.1's scaling with the numbers that NeMo has for it."""
    return rope["rope_type"] == "llama3" and (
        rope["factor"],
        rope["low_freq_factor"],
        rope["high_freq_factor"],
        rope["original_max_position_embeddings"],
    ) == (LLAMA_3_FACTOR, LLAMA_3_LOW_FREQUENCY, LLAMA_3_HIGH_FREQUENCY, LLAMA_3_OLD_CONTEXT)


def _language_config(config: Any, shape: LanguageShape) -> dict[str, Any]:
    rope = config.text_config.rope_parameters
    return {
        "mcore_gpt": True,
        "tensor_model_parallel_size": 1,
        "pipeline_model_parallel_size": 1,
        "encoder_seq_length": shape.context_tokens,
        "max_position_embeddings": shape.context_tokens,
        "num_layers": shape.num_layers,
        "hidden_size": shape.hidden_size,
        "ffn_hidden_size": shape.ffn_size,
        "num_attention_heads": shape.num_heads,
        "num_query_groups": shape.num_kv_heads,
        "kv_channels": shape.head_dim,
        "normalization": "rmsnorm",
        "layernorm_epsilon": shape.norm_epsilon,
        "activation": "fast-swiglu",
        "bias": shape.mlp_bias,
        "qkv_bias": shape.qkv_bias,
        "position_embedding_type": "rope",
        "rotary_percentage": 1.0,
        "rotary_base": rope["rope_theta"],
        "seq_len_interpolation_factor": None if _is_llama_3(rope) else rope.get("factor"),
        "scale_positional_embedding": _is_llama_3(rope),
        "share_embeddings_and_output_weights": shape.ties_embeddings,
        "make_vocab_size_divisible_by": 128,
    }


def _media_config(
    profile: ModelProfile, checkpoint: Checkpoint, template: str, base: Path | None
) -> dict[str, Any]:
    vision = checkpoint.shape.vision
    layer = vision.num_layers_used - vision.tower.num_hidden_layers - 1
    keeps_class_token = vision.num_class_tokens > vision.num_dropped
    return {
        "mm_cfg": {
            "llm": {
                "from_pretrained": None if base is None else str(base),
                "freeze": base is not None,
                "model_type": "v1",
            },
            "vision_encoder": {
                "from_pretrained": None,
                "from_hf": True,
                "patch_dim": vision.patch_size,
                "crop_size": [vision.image_size, vision.image_size],
                "hidden_size": vision.hidden_size,
                "vision_select_layer": layer,
                "vision_select_feature": "cls_patch" if keeps_class_token else "patch",
                "class_token_length": vision.num_class_tokens,
                "freeze": True,
            },
            "mm_mlp_adapter_type": vision.projector,
            "use_im_start_end": False,
        },
        "data": {
            "conv_template": template,
            "media_type": "video",
            "num_frames": profile.num_frames,
            "splice_single_frame": None,
            "image_aspect_ratio": "square",
        },
        OWN_SECTION: {
            "image_token_id": profile.image_token_id,
            "eos_token_ids": list(profile.eos_token_ids),
            "bos_token_id": profile.bos_token_id,
            "add_bos": profile.add_bos,
            "vocab_size": profile.vocab_size,
        },
    }


def _language_tensors(checkpoint: Checkpoint) -> Named:
    """megatron-core's names, Transformer Engine's spelling, as NeMo writes them."""
    shape, weights = checkpoint.shape.language, checkpoint.weights

    def padded(name: str) -> torch.Tensor:
        tensor = weights.read(name)
        missing = padded_vocab_size(shape.vocab_size, 1) - tensor.size(0)
        return torch.cat([tensor, tensor.new_zeros(missing, tensor.size(1))])

    yield "model.embedding.word_embeddings.weight", padded("language_model.embed_tokens.weight")
    yield "model.decoder.final_layernorm.weight", weights.read("language_model.norm.weight")
    if not shape.ties_embeddings:
        yield "model.output_layer.weight", padded("lm_head.weight")
    for layer in range(shape.num_layers):
        source, target = f"language_model.layers.{layer}.", f"model.decoder.layers.{layer}."
        attention, mlp = target + "self_attention.", target + "mlp."
        yield (
            attention + "linear_qkv.layer_norm_weight",
            weights.read(source + "input_layernorm.weight"),
        )
        yield attention + "linear_qkv.weight", _fused_qkv(weights, source, "weight", shape)
        if shape.qkv_bias:
            yield attention + "linear_qkv.bias", _fused_qkv(weights, source, "bias", shape)
        yield attention + "linear_proj.weight", weights.read(source + "self_attn.o_proj.weight")
        yield (
            mlp + "linear_fc1.layer_norm_weight",
            weights.read(source + "post_attention_layernorm.weight"),
        )
        halves = [weights.read(f"{source}mlp.{name}_proj.weight") for name in ("gate", "up")]
        yield mlp + "linear_fc1.weight", torch.cat(halves)
        yield mlp + "linear_fc2.weight", weights.read(source + "mlp.down_proj.weight")
        if shape.mlp_bias:
            yield attention + "linear_proj.bias", weights.read(source + "self_attn.o_proj.bias")
            halves = [weights.read(f"{source}mlp.{name}_proj.bias") for name in ("gate", "up")]
            yield mlp + "linear_fc1.bias", torch.cat(halves)
            yield mlp + "linear_fc2.bias", weights.read(source + "mlp.down_proj.bias")


def _fused_qkv(weights: Weights, source: str, kind: str, shape: LanguageShape) -> torch.Tensor:
    rows = (shape.num_heads + 2 * shape.num_kv_heads) * shape.head_dim
    fused: torch.Tensor | None = None
    for name, blocks in qkv_blocks(shape).items():
        part = weights.read(f"{source}self_attn.{name}_proj.{kind}")
        if fused is None:
            fused = part.new_empty(rows, *part.shape[1:])
        for piece, (first, last) in zip(part.chunk(len(blocks)), blocks, strict=True):
            fused[first:last] = piece
    if fused is None:
        raise RuntimeError("no projections")
    return fused


def _projector_tensors(checkpoint: Checkpoint) -> Named:
    for ours, theirs in projector_names(checkpoint.shape.vision.projector).items():
        yield "model." + theirs, checkpoint.weights.read(ours)


def _write_tower(directory: Path, target: Path, checkpoint: Checkpoint) -> None:
    target.mkdir(parents=True)
    config = checkpoint.shape.vision.tower
    (target / "config.json").write_bytes(
        orjson.dumps(config.to_dict(), default=str, option=orjson.OPT_NON_STR_KEYS)
    )
    shutil.copyfile(directory / "preprocessor_config.json", target / "preprocessor_config.json")
    tensors = {
        "vision_model." + name.removeprefix("vision_tower."): checkpoint.weights.read(name)
        for name in tower_shapes(config)
    }
    save_file(tensors, target / "model.safetensors")
