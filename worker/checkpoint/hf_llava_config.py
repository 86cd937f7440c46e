"""Read the architecture of a Hugging Face LLaVA directory, or say what of it is not supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
from transformers import LlavaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from neva.errors import ConfigError
from neva.reasons import Reason
from worker.engine.architecture import LanguageShape, LlavaShape, VisionShape

_TEXT_MODELS = ("llama", "mistral", "qwen2")
_TOWERS = ("clip_vision_model", "siglip_vision_model")

# Others ("dynamic", "longrope") change with the length of the sequence.
_ROTARY_TYPES = ("default", "linear", "llama3")


def read_llava_shape(directory: Path) -> LlavaShape:
    """The architecture, from config.json.

    Raises:
        ConfigError: INVALID_CHECKPOINT, no usable config.json; UNSUPPORTED_MODEL, another
            architecture, or parts of this one that the engine does not have: all are named.
    """
    file = directory / "config.json"
    try:
        raw = orjson.loads(file.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise _invalid(file, error) from error
    if not isinstance(raw, dict):
        raise _invalid(file, "it is not a JSON object")
    if raw.get("model_type") != "llava":
        raise _unsupported(file, [f"model_type {raw.get('model_type')!r} (only 'llava')"])
    try:
        config: Any = LlavaConfig.from_dict(raw)
    except Exception as error:  # it raises whatever a wrong value leads to
        raise _invalid(file, str(error).splitlines()[0]) from error
    problems = _problems(config)
    if problems:
        raise _unsupported(file, problems)
    return LlavaShape(_language_shape(config), _vision_shape(config))


def _problems(config: Any) -> list[str]:
    text, vision = config.text_config, config.vision_config
    checks: list[tuple[str, object, tuple[object, ...]]] = [
        ("text_config.model_type", text.model_type, _TEXT_MODELS),
        ("vision_config.model_type", vision.model_type, _TOWERS),
        ("projector_hidden_act", config.projector_hidden_act, ("gelu",)),
        (
            "vision_feature_select_strategy",
            config.vision_feature_select_strategy,
            ("default", "full"),
        ),
    ]
    if text.model_type in _TEXT_MODELS:
        checks += [
            ("text_config.hidden_act", text.hidden_act, ("silu",)),
            ("text_config.sliding_window", _sliding_window(text), (None,)),
            (
                "text_config.rope_parameters.rope_type",
                text.rope_parameters["rope_type"],
                _ROTARY_TYPES,
            ),
        ]
    problems = [
        f"{name} {found!r} (only {' or '.join(repr(w) for w in wanted)})"
        for name, found, wanted in checks
        if found not in wanted
    ]
    if vision.model_type in _TOWERS and not isinstance(vision.image_size, int):
        problems.append(f"vision_config.image_size {vision.image_size!r} (only a square's side)")
    layer, num_layers = config.vision_feature_layer, vision.num_hidden_layers
    if not isinstance(layer, int) or not -num_layers - 1 <= layer <= num_layers:
        problems.append(f"vision_feature_layer {layer!r} (only one of {num_layers} layers)")
    return problems


def _sliding_window(text: Any) -> int | None:
    """Positions that a layer looks back on, where that is less than the whole context."""
    window = getattr(text, "sliding_window", None)
    if text.model_type == "qwen2" and "sliding_attention" not in text.layer_types:
        window = None
    too_small = window is not None and window < text.max_position_embeddings
    return window if too_small else None


def _language_shape(config: Any) -> LanguageShape:
    text = config.text_config
    is_qwen = text.model_type == "qwen2"  # biases on queries, keys and values, always
    is_llama = text.model_type == "llama"
    rotary = LlamaRotaryEmbedding(text)
    return LanguageShape(
        num_layers=text.num_hidden_layers,
        hidden_size=text.hidden_size,
        ffn_size=text.intermediate_size,
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocab_size=text.vocab_size,
        context_tokens=text.max_position_embeddings,
        norm_epsilon=text.rms_norm_eps,
        inverse_frequencies=tuple(rotary.inv_freq.tolist()),
        rotary_scaling=float(rotary.attention_scaling),
        # The outer key says whether LlavaForConditionalGeneration's own head is tied.
        ties_embeddings=bool(config.tie_word_embeddings),
        qkv_bias=is_qwen or (is_llama and text.attention_bias),
        output_bias=is_llama and text.attention_bias,
        mlp_bias=is_llama and text.mlp_bias,
    )


def _vision_shape(config: Any) -> VisionShape:
    vision, layer = config.vision_config, config.vision_feature_layer
    return VisionShape(
        tower=vision,
        image_size=vision.image_size,
        patch_size=vision.patch_size,
        num_channels=vision.num_channels,
        hidden_size=vision.hidden_size,
        # Hidden state 0 is the embeddings, n the output of layer n.
        num_layers_used=layer if layer >= 0 else vision.num_hidden_layers + 1 + layer,
        num_class_tokens=1 if vision.model_type == "clip_vision_model" else 0,
        # "default" leaves the first place out whatever it is; SigLIP has no class token there.
        num_dropped=1 if config.vision_feature_select_strategy == "default" else 0,
        projector_bias=config.multimodal_projector_bias,
    )


def _invalid(file: Path, problem: object) -> ConfigError:
    return ConfigError(f"{file} can't be read: {problem}", reason=Reason.INVALID_CHECKPOINT)


def _unsupported(file: Path, problems: list[str]) -> ConfigError:
    return ConfigError(
        f"{file} describes a model that is not supported: {'; '.join(problems)}",
        reason=Reason.UNSUPPORTED_MODEL,
    )
