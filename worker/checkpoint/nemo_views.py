"""Canonical tensors as views of NeMo's fused ones: no data is touched.

A fused qkv holds, for each key-value head, its queries, its key, its value; a gated fc1 all gate
rows, then all up rows.
"""

from __future__ import annotations

from collections.abc import Iterator

from worker.checkpoint.nemo_names import ADAPTED
from worker.checkpoint.stored import TiledTensor
from worker.engine.architecture import LanguageShape

Blocks = list[tuple[int, int]]


def canonical_tensors(
    shape: LanguageShape, found: dict[str, TiledTensor]
) -> dict[str, TiledTensor]:
    """The language model's tensors by canonical name.

    found: by common name, checked. Adapters become `NAME.lora_in` and `NAME.lora_out` of the
    matrices they change.
    """
    tensors = {
        "language_model.embed_tokens.weight": found["embedding.word_embeddings.weight"],
        "language_model.norm.weight": found["decoder.final_layernorm.weight"],
    }
    if not shape.ties_embeddings:
        tensors["lm_head.weight"] = found["output_layer.weight"]
    if shape.norm == "layernorm":
        tensors["language_model.norm.bias"] = found["decoder.final_layernorm.bias"]
    for layer in range(shape.num_layers):
        source, target = f"decoder.layers.{layer}.", f"language_model.layers.{layer}."
        for theirs, ours in (
            ("input_layernorm", "input_layernorm"),
            ("pre_mlp_layernorm", "post_attention_layernorm"),
        ):
            for part in ("weight", "bias")[: 1 if shape.norm == "rmsnorm" else 2]:
                tensors[f"{target}{ours}.{part}"] = found[f"{source}{theirs}.{part}"]
        for matrix, adapter, name, blocks in _parts(shape):
            for part in ("weight", "bias"):
                whole = found.get(f"{source}{matrix}.{part}")
                if whole is not None:
                    tensors[f"{target}{name}.{part}"] = _cut(whole, blocks)
            inner = found.get(f"{source}{adapter}.linear_in.weight")
            outer = found.get(f"{source}{adapter}.linear_out.weight")
            if inner is not None and outer is not None:
                tensors[f"{target}{name}.weight.lora_in"] = inner
                tensors[f"{target}{name}.weight.lora_out"] = _cut(outer, blocks)
    return tensors


def _parts(shape: LanguageShape) -> Iterator[tuple[str, str, str, Blocks | None]]:
    """A layer's matrix, its adapter, a canonical matrix in it, and the rows that are that one."""
    for name, blocks in qkv_blocks(shape).items():
        yield *ADAPTED["attention_qkv"], f"self_attn.{name}_proj", blocks
    yield *ADAPTED["attention_dense"], "self_attn.o_proj", None
    ffn = shape.ffn_size
    if shape.gated:
        yield *ADAPTED["mlp_fc1"], "mlp.gate_proj", [(0, ffn)]
        yield *ADAPTED["mlp_fc1"], "mlp.up_proj", [(ffn, 2 * ffn)]
    else:
        yield *ADAPTED["mlp_fc1"], "mlp.up_proj", None
    yield *ADAPTED["mlp_fc2"], "mlp.down_proj", None


def _cut(whole: TiledTensor, blocks: Blocks | None) -> TiledTensor:
    return whole if blocks is None else whole.rows_of(blocks, whole.origin)


def qkv_blocks(shape: LanguageShape) -> dict[str, Blocks]:
    """Row blocks (first, last + 1) of the fused qkv that are the queries, keys and values."""
    dim, groups = shape.head_dim, shape.num_kv_heads
    per_group = shape.num_heads // groups
    stride = (per_group + 2) * dim
    places = {"q": (0, per_group), "k": (per_group, per_group + 1)}
    places["v"] = (per_group + 1, per_group + 2)
    return {
        name: [(g * stride + first * dim, g * stride + last * dim) for g in range(groups)]
        for name, (first, last) in places.items()
    }
