"""Fill a rank's GPTModel from a checkpoint: slices, fused projections, vocabulary padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import pad

from neva.rank_split import RankSplit, Stage, split_over
from worker.checkpoint.base import Weights
from worker.engine.architecture import LanguageShape
from worker.engine.language_model import padded_vocab_size


@torch.no_grad()
def load_language_model(
    model: Any, weights: Weights, shape: LanguageShape, rank: int, num_ranks: int, stage: Stage
) -> None:
    """Fill this rank's GPTModel, converting to its precision; reads this rank's slices only.

    rank, num_ranks: among those that share each layer of the stage.
    """
    parameters = dict(model.named_parameters())
    for name, tensor in _language_model_parts(weights, shape, rank, num_ranks, stage):
        parameter = parameters.pop(name)
        if name.endswith(("word_embeddings.weight", "output_layer.weight")):
            parameter[tensor.size(0) :] = 0  # padding of the vocabulary
            parameter[: tensor.size(0)] = tensor
        else:
            parameter.copy_(tensor)
    if parameters:
        raise RuntimeError(f"parameters without a source: {sorted(parameters)}")


def _language_model_parts(
    weights: Weights, shape: LanguageShape, rank: int, num_ranks: int, stage: Stage
) -> Iterator[tuple[str, torch.Tensor]]:
    """megatron's parameter names with this rank's part of each."""
    if stage.is_first:
        yield (
            "embedding.word_embeddings.weight",
            _vocabulary_part(weights, "language_model.embed_tokens", shape, rank, num_ranks),
        )
    if stage.is_last:
        head = "language_model.embed_tokens" if shape.ties_embeddings else "lm_head"
        yield "output_layer.weight", _vocabulary_part(weights, head, shape, rank, num_ranks)
        yield from _norm(weights, "language_model.norm.", "decoder.final_layernorm.", shape)
    split = split_over(shape, num_ranks)
    mlp = split.ffn(rank)
    heads = _times(split.heads(rank), shape.head_dim)
    for place, layer in enumerate(stage.layers):
        source, target = f"language_model.layers.{layer}.", f"decoder.layers.{place}."
        for theirs, ours in (
            ("input_layernorm.", "input_layernorm."),
            ("post_attention_layernorm.", "pre_mlp_layernorm."),
        ):
            yield from _norm(weights, source + theirs, target + ours, shape)
        yield (
            target + "self_attention.linear_qkv.weight",
            _qkv_part(weights, source + "self_attn.", "weight", shape, split, rank),
        )
        yield (
            target + "self_attention.linear_proj.weight",
            _columns(weights, source + "self_attn.o_proj.weight", heads),
        )
        inner = ("gate_proj", "up_proj") if shape.gated else ("up_proj",)
        parts = [_rows(weights, f"{source}mlp.{name}.weight", mlp) for name in inner]
        yield target + "mlp.linear_fc1.weight", torch.cat(parts)
        yield (
            target + "mlp.linear_fc2.weight",
            _columns(weights, source + "mlp.down_proj.weight", mlp),
        )
        yield from _biases(weights, source, target, shape, split, rank)


def _biases(
    weights: Weights, source: str, target: str, shape: LanguageShape, split: RankSplit, rank: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Those that megatron's layer has: all of them, or queries', keys' and values' alone."""
    attention, mlp, columns = target + "self_attention.", target + "mlp.", split.ffn(rank)
    all_linear = shape.output_bias or shape.mlp_bias
    inner = ("gate_proj", "up_proj") if shape.gated else ("up_proj",)
    zeros = torch.zeros(shape.hidden_size)
    if shape.qkv_bias:
        fused = _qkv_part(weights, source + "self_attn.", "bias", shape, split, rank)
        yield attention + "linear_qkv.bias", fused.flatten()
    elif all_linear:
        num_rows = (split.local_heads + 2 * split.local_kv_heads) * shape.head_dim
        yield attention + "linear_qkv.bias", torch.zeros(num_rows)
    if all_linear:
        output = weights.read(source + "self_attn.o_proj.bias") if shape.output_bias else zeros
        yield attention + "linear_proj.bias", output
        parts = [torch.zeros(len(columns))] * len(inner)
        if shape.mlp_bias:
            parts = [
                _rows(weights, f"{source}mlp.{name}.bias", columns).flatten() for name in inner
            ]
        yield mlp + "linear_fc1.bias", torch.cat(parts)
        down = weights.read(source + "mlp.down_proj.bias") if shape.mlp_bias else zeros
        yield mlp + "linear_fc2.bias", down


def _norm(
    weights: Weights, source: str, target: str, shape: LanguageShape
) -> Iterator[tuple[str, torch.Tensor]]:
    weight = weights.read(source + "weight")
    if shape.norm_offset:
        weight = weight.float() + shape.norm_offset
    yield target + "weight", weight
    if shape.norm == "layernorm":
        yield target + "bias", weights.read(source + "bias")


def _share(size: int, rank: int, num_ranks: int) -> slice:
    each = size // num_ranks
    return slice(rank * each, (rank + 1) * each)


def _vocabulary_part(
    weights: Weights, name: str, shape: LanguageShape, rank: int, num_ranks: int
) -> torch.Tensor:
    """This rank's rows of the padded vocabulary as far as the file has them."""
    part = _share(padded_vocab_size(shape.vocab_size, num_ranks), rank, num_ranks)
    last = shape.vocab_size
    return weights.read(name + ".weight", slice(min(part.start, last), min(part.stop, last)))


def _qkv_part(
    weights: Weights, prefix: str, part: str, shape: LanguageShape, split: RankSplit, rank: int
) -> torch.Tensor:
    """megatron's fused projection: for each kv head its queries, its key, its value.

    part: "weight", or "bias", which comes as one column.
    """
    dim = shape.head_dim
    kv_rows = _times(split.kv_heads(rank), dim)
    query_rows = _times(split.heads(rank), dim)
    query = _whole_rotary(_rows(weights, f"{prefix}q_proj.{part}", query_rows), shape)
    key = _whole_rotary(_rows(weights, f"{prefix}k_proj.{part}", kv_rows), shape)
    value = _rows(weights, f"{prefix}v_proj.{part}", kv_rows)
    # each (local kv heads, heads × dim, hidden)
    parts = [t.reshape(split.local_kv_heads, -1, t.size(-1)) for t in (query, key, value)]
    return torch.cat(parts, dim=1).flatten(0, 1)


def _times(heads: range, dim: int) -> range:
    return range(heads.start * dim, heads.stop * dim)


def _rows(weights: Weights, name: str, rows: range) -> torch.Tensor:
    """Rows of a tensor, a vector's as one column; those past its end are zeros."""
    part = weights.read(name, slice(rows.start, rows.stop))
    part = part[:, None] if part.dim() == 1 else part
    return pad(part, (0, 0, 0, len(rows) - part.size(0)))


def _columns(weights: Weights, name: str, columns: range) -> torch.Tensor:
    """Columns of a tensor; those past its end are zeros."""
    part = weights.read(name, columns=slice(columns.start, columns.stop))
    return pad(part, (0, len(columns) - part.size(1)))


def _whole_rotary(projection: torch.Tensor, shape: LanguageShape) -> torch.Tensor:
    """Reorder each head's rows so that partial rotation is whole rotation with zero frequencies.

    A partial rotary embedding rotates dimensions i and i + size / 2 of the first `size`; ours
    rotates i and i + head_dim / 2 of all. Queries and keys are reordered alike, which no product
    of the two can see, and attention needs to know nothing of it.

    projection: (heads × head_dim, hidden)
    """
    dim, size = shape.head_dim, shape.rotary_size
    if size is None or size == dim:
        return projection
    half, rest = size // 2, (dim - size) // 2
    order = [
        *range(half),
        *range(size, size + rest),
        *range(half, size),
        *range(size + rest, dim),
    ]
    heads = projection.reshape(-1, dim, projection.size(-1))
    return heads[:, order].flatten(0, 1)
