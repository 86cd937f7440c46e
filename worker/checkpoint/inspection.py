"""What a model is, and what it needs, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

from neva.local_model import LocalModel
from neva.model_profile import ModelProfile
from neva.rank_split import Stage, split_over, stage_of
from neva.spec_model import Quantization
from worker.checkpoint.base import Checkpoint
from worker.checkpoint.hf_llava_layout import tower_shapes
from worker.checkpoint.nemo_names import projector_shapes
from worker.checkpoint.open import open_checkpoint
from worker.engine.architecture import LanguageShape, LlavaShape, VisionShape
from worker.engine.language_model import padded_vocab_size

BYTES_OF_PRECISION = {"fp32": 4, "bf16": 2, "fp16": 2}
_SIZES = (1, 2, 4, 8)
_GROUP_SIZE = Quantization.model_validate({}).group_size


@dataclass(frozen=True, slots=True)
class Inspection:
    """A checked model.

    Attributes:
        facts: (name, words), in the order to be shown.
        weight_bytes_per_rank: by tensor parallel size, of the stage that has most.
        int4_bytes_per_rank: the same with the language model's matrices in 4 bits (awq), at the
            default group size.
        kv_bytes_per_token: of one rank's cache, by tensor parallel size, of the largest stage.
    """

    facts: tuple[tuple[str, str], ...]
    weight_bytes_per_rank: dict[int, int]
    int4_bytes_per_rank: dict[int, int]
    kv_bytes_per_token: dict[int, int]


def inspect_model(model: LocalModel, precision: str, num_stages: int = 1) -> Inspection:
    """Open and check the model without loading a weight.

    num_stages: pipeline parallel size to reckon memory with.

    Raises:
        ConfigError: all that `open_checkpoint` and the profile complain about.
    """
    profile, tokenizer = model.profile(), model.tokenizer()
    with open_checkpoint(model) as checkpoint:
        shape = checkpoint.shape
        num_layers = shape.language.num_layers
        stages = [stage_of(num_layers, n, num_stages) for n in range(num_stages)]
        num_bytes = BYTES_OF_PRECISION[precision]
        return Inspection(
            facts=tuple(_facts(model, profile, checkpoint, tokenizer.vocab_size)),
            weight_bytes_per_rank={
                n: num_bytes * max(rank_parameters(shape, n, stage) for stage in stages)
                for n in _SIZES
            },
            int4_bytes_per_rank={
                n: max(int4_bytes(shape, n, stage, num_bytes, _GROUP_SIZE) for stage in stages)
                for n in _SIZES
            },
            kv_bytes_per_token={
                n: num_bytes * _kv_values(shape.language, n, stages[0]) for n in _SIZES
            },
        )


def as_dict(found: Inspection, precision: str, num_stages: int) -> dict[str, Any]:
    """For `-o json|yaml`."""
    return {
        **{name.replace(", ", "_").replace(" ", "_"): words for name, words in found.facts},
        "precision": precision,
        "pipeline_parallel_size": num_stages,
        "memory": [
            {
                "tensor_parallel_size": size,
                "weight_bytes_per_rank": num_bytes,
                "awq_weight_bytes_per_rank": found.int4_bytes_per_rank[size],
                "kv_bytes_per_token": found.kv_bytes_per_token[size],
            }
            for size, num_bytes in found.weight_bytes_per_rank.items()
        ],
    }


def _facts(
    model: LocalModel, profile: ModelProfile, checkpoint: Checkpoint, num_ids: int
) -> Iterator[tuple[str, str]]:
    text, vision = checkpoint.shape.language, checkpoint.shape.vision
    yield "layout", checkpoint.layout
    yield (
        "language model",
        f"{text.num_layers} layers, hidden {text.hidden_size}, {text.num_heads} heads of "
        f"{text.head_dim} in {text.num_kv_heads} groups, mlp {text.ffn_size} "
        f"({'gated ' if text.gated else ''}{text.activation})",
    )
    rotated = text.head_dim if text.rotary_size is None else text.rotary_size
    yield (
        "norm, rotary",
        f"{text.norm}{' (stored less 1)' if text.norm_offset else ''}, "
        f"{rotated} of {text.head_dim} dimensions",
    )
    biases = [
        words
        for has, words in (
            (text.qkv_bias, "queries, keys and values"),
            (text.output_bias, "attention's output"),
            (text.mlp_bias, "mlp"),
        )
        if has
    ]
    yield "biases", ", ".join(biases) or "none"
    yield "vocabulary", f"{text.vocab_size}{', tied' if text.ties_embeddings else ''}"
    yield "tokenizer", f"{num_ids} ids, ends with {list(profile.eos_token_ids)}"
    yield "context", f"{profile.context_tokens} tokens"
    yield "template", profile.template
    yield "frames", f"{profile.num_frames} of a video, {profile.image_size}x{profile.image_size}"
    yield (
        "tokens",
        f"{profile.tokens_per_frame} a frame, "
        f"{profile.tokens_per_frame * profile.num_frames} a video",
    )
    yield "tower", _tower_words(vision, model)
    yield "projector", vision.projector
    yield "stored", f"{checkpoint.num_bytes} bytes"


def _tower_words(vision: VisionShape, model: LocalModel) -> str:
    name = "SigLIP" if vision.tower.model_type == "siglip_vision_model" else "CLIP"
    where = "in the checkpoint" if model.vision is None else str(model.vision)
    return (
        f"{name}, hidden {vision.hidden_size}, patch {vision.patch_size}, "
        f"{vision.num_layers_used} of {vision.tower.num_hidden_layers} layers used, {where}"
    )


def rank_parameters(shape: LlavaShape, num_ranks: int, stage: Stage) -> int:
    """Numbers that one rank holds: its part of the language model, the whole media part.

    num_ranks: those that share each layer.
    """
    text = shape.language
    hidden = text.hidden_size
    # Embedding and output layer, tied or not.
    vocabulary = hidden * padded_vocab_size(text.vocab_size, num_ranks)
    vocabulary *= stage.is_first + stage.is_last
    num_layers = len(stage.layers)
    norms = (2 * num_layers + stage.is_last) * hidden * (1 if text.norm == "rmsnorm" else 2)
    split = split_over(text, num_ranks)
    biases = 0
    all_linear = text.output_bias or text.mlp_bias  # megatron has the rest as zeros then
    if text.qkv_bias or all_linear:
        biases += (split.num_heads + 2 * split.num_kv_heads) * text.head_dim
    if all_linear:
        biases += split.ffn_size * (2 if text.gated else 1)
        norms += 2 * num_layers * hidden  # not divided either
    media = tower_shapes(shape.vision.used_tower) | projector_shapes(shape.vision, hidden)
    divided = _matrix_parameters(text, num_ranks, stage)
    divided += (num_layers * biases + vocabulary) // num_ranks
    return divided + norms + sum(prod(size) for size in media.values())


def _matrix_parameters(text: LanguageShape, num_ranks: int, stage: Stage) -> int:
    """Numbers in one rank's part of the matrices of a stage's layers."""
    hidden = text.hidden_size
    split = split_over(text, num_ranks)
    query_size = split.num_heads * text.head_dim
    kv_size = split.num_kv_heads * text.head_dim
    of_layer = hidden * (2 * query_size + 2 * kv_size)
    of_layer += hidden * split.ffn_size * (3 if text.gated else 2)
    return len(stage.layers) * of_layer // num_ranks


def int4_bytes(
    shape: LlavaShape, num_ranks: int, stage: Stage, num_bytes: int, group_size: int
) -> int:
    """Memory of one rank's weights with the language model's matrices quantized by awq.

    num_bytes: of one number in the model's precision, as are steps and input factors.
    """
    text = shape.language
    split = split_over(text, num_ranks)
    matrices = _matrix_parameters(text, num_ranks, stage)
    others = rank_parameters(shape, num_ranks, stage) - matrices
    inputs = 2 * text.hidden_size + split.local_heads * text.head_dim + split.ffn_size // num_ranks
    factors, groups = len(stage.layers) * inputs, matrices // group_size
    return num_bytes * (others + factors + groups) + matrices // 2 + groups


def _kv_values(shape: LanguageShape, num_ranks: int, stage: Stage) -> int:
    heads = split_over(shape, num_ranks).local_kv_heads
    return 2 * len(stage.layers) * heads * shape.head_dim
