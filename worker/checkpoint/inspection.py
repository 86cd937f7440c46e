"""What a model is, and what it needs, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from neva.local_model import LocalModel
from neva.model_profile import ModelProfile
from neva.rank_split import split_over
from neva.spec import Quantization
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
        weight_bytes_per_rank: by tensor parallel size.
        int4_bytes_per_rank: the same with the language model's matrices in 4 bits (awq), at the
            default group size.
        kv_bytes_per_token: of one rank's cache, by tensor parallel size.
    """

    facts: tuple[tuple[str, str], ...]
    weight_bytes_per_rank: dict[int, int]
    int4_bytes_per_rank: dict[int, int]
    kv_bytes_per_token: dict[int, int]


def inspect_model(model: LocalModel, precision: str) -> Inspection:
    """Open and check the model without loading a weight.

    Raises:
        ConfigError: all that `open_checkpoint` and the profile complain about.
    """
    profile, tokenizer = model.profile(), model.tokenizer()
    with open_checkpoint(model) as checkpoint:
        shape = checkpoint.shape
        num_bytes = BYTES_OF_PRECISION[precision]
        return Inspection(
            facts=tuple(_facts(model, profile, checkpoint, tokenizer.vocab_size)),
            weight_bytes_per_rank={n: num_bytes * rank_parameters(shape, n) for n in _SIZES},
            int4_bytes_per_rank={n: int4_bytes(shape, n, num_bytes, _GROUP_SIZE) for n in _SIZES},
            kv_bytes_per_token={n: num_bytes * _kv_values(shape.language, n) for n in _SIZES},
        )


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
    where = "in the checkpoint" if model.vision is None else str(model.vision)
    return (
        f"CLIP, hidden {vision.hidden_size}, patch {vision.patch_size}, "
        f"{vision.num_layers_used} of {vision.clip.num_hidden_layers} layers used, {where}"
    )


def rank_parameters(shape: LlavaShape, num_ranks: int) -> int:
    """Numbers that one rank holds: its part of the language model, the whole media part."""
    text = shape.language
    hidden = text.hidden_size
    vocabulary = 2 * hidden * padded_vocab_size(text.vocab_size, num_ranks)  # tied or not
    norms = (2 * text.num_layers + 1) * hidden * (1 if text.norm == "rmsnorm" else 2)
    used = shape.vision.clip.to_dict() | {"num_hidden_layers": shape.vision.num_layers_used}
    tower = tower_shapes(type(shape.vision.clip).from_dict(used))
    media = tower | projector_shapes(shape.vision, hidden)
    divided = _matrix_parameters(text, num_ranks) + vocabulary // num_ranks
    return divided + norms + sum(prod(size) for size in media.values())


def _matrix_parameters(text: LanguageShape, num_ranks: int) -> int:
    """Numbers in one rank's part of all layers' matrices."""
    hidden = text.hidden_size
    split = split_over(text, num_ranks)
    query_size = split.num_heads * text.head_dim
    kv_size = split.num_kv_heads * text.head_dim
    of_layer = hidden * (2 * query_size + 2 * kv_size)
    of_layer += hidden * split.ffn_size * (3 if text.gated else 2)
    return text.num_layers * of_layer // num_ranks


def int4_bytes(shape: LlavaShape, num_ranks: int, num_bytes: int, group_size: int) -> int:
    """Memory of one rank's weights with the language model's matrices quantized by awq.

    num_bytes: of one number in the model's precision, as are steps and input factors.
    """
    text = shape.language
    split = split_over(text, num_ranks)
    matrices = _matrix_parameters(text, num_ranks)
    others = rank_parameters(shape, num_ranks) - matrices
    inputs = 2 * text.hidden_size + split.local_heads * text.head_dim + split.ffn_size // num_ranks
    factors, groups = text.num_layers * inputs, matrices // group_size
    return num_bytes * (others + factors + groups) + matrices // 2 + groups


def _kv_values(shape: LanguageShape, num_ranks: int) -> int:
    heads = split_over(shape, num_ranks).local_kv_heads
    return 2 * shape.num_layers * heads * shape.head_dim
