"""Canonical tensors as views of NeMo's fused ones: no data is touched.

A fused qkv holds, for each key-value head, its queries, its key, its value; a gated fc1 all gate
rows, then all up rows.
"""

from __future__ import annotations

from worker.checkpoint.nemo_names import ADAPTER
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
        fused = found[source + "self_attention.linear_qkv.weight"]
        inner = found.get(source + ADAPTER + "linear_in.weight")
        outer = found.get(source + ADAPTER + "linear_out.weight")
        for name, blocks in qkv_blocks(shape).items():
            ours = f"{target}self_attn.{name}_proj.weight"
            tensors[ours] = fused.rows_of(blocks, fused.origin)
            if inner is not None and outer is not None:
                tensors[ours + ".lora_in"] = inner
                tensors[ours + ".lora_out"] = outer.rows_of(blocks, outer.origin)
        tensors[target + "self_attn.o_proj.weight"] = found[
            source + "self_attention.linear_proj.weight"
        ]
        fc1, ffn = found[source + "mlp.linear_fc1.weight"], shape.ffn_size
        if shape.gated:
            tensors[target + "mlp.gate_proj.weight"] = fc1.rows_of([(0, ffn)], fc1.origin)
            tensors[target + "mlp.up_proj.weight"] = fc1.rows_of([(ffn, 2 * ffn)], fc1.origin)
        else:
            tensors[target + "mlp.up_proj.weight"] = fc1
        tensors[target + "mlp.down_proj.weight"] = found[source + "mlp.linear_fc2.weight"]
    return tensors


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
