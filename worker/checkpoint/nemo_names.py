"""Names and shapes of the tensors in NeMo 1 checkpoints, brought to one spelling.

Ours is megatron-core's with separate norms: `decoder.layers.{i}.self_attention.linear_qkv.weight`,
`decoder.layers.{i}.input_layernorm.weight`. Transformer Engine fuses the norms into the matrices
behind them, legacy models name everything differently, distributed checkpoints stack the layers.
"""

from __future__ import annotations

import re

from neva.nemo_config import Adapters, AdapterTarget, ProjectorKind
from worker.checkpoint.base import Shape
from worker.checkpoint.stored import StoredTensor, Tile, TiledTensor
from worker.engine.architecture import LanguageShape, VisionShape

PROJECTOR = "embedding.word_embeddings.adapter_layer.mm_projector_adapter.mm_projector."
TOWER = "embedding.word_embeddings.vision_encoder."
ADAPTER = ".adapter_layer.lora_"
# Matrix of a layer, and its LoRA adapter, by NeMo's name of the target.
ADAPTED: dict[AdapterTarget, tuple[str, str]] = {
    "attention_qkv": (
        "self_attention.linear_qkv",
        "self_attention.adapter_layer.lora_kqv_adapter",
    ),
    "attention_dense": (
        "self_attention.linear_proj",
        "self_attention.adapter_layer.lora_dense_attention_adapter",
    ),
    "mlp_fc1": ("mlp.linear_fc1", "mlp.adapter_layer.lora_hto4h_adapter"),
    "mlp_fc2": ("mlp.linear_fc2", "mlp.adapter_layer.lora_4htoh_adapter"),
}

# Bookkeeping, and buffers that follow from the configuration.
_IGNORED = re.compile(r"(_extra_state.*|rotary_pos_emb\.inv_freq|embeddings\.position_ids)$")

_RENAMES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^(model\.|module\.)+", ""),
        # legacy models
        (r"^language_model\.(?=embedding\.|output_layer\.)", ""),
        (r"^language_model\.encoder\.", "decoder."),
        (r"\bself_attention\.query_key_value\.", "self_attention.linear_qkv."),
        (r"\bself_attention\.dense\.", "self_attention.linear_proj."),
        (r"\bpost_attention_layernorm\.", "pre_mlp_layernorm."),
        (r"\bmlp\.dense_h_to_4h\.", "mlp.linear_fc1."),
        (r"\bmlp\.dense_4h_to_h\.", "mlp.linear_fc2."),
        # Transformer Engine
        (r"\bself_attention\.linear_qkv\.layer_norm_(?=weight$|bias$)", "input_layernorm."),
        (r"\bmlp\.linear_fc1\.layer_norm_(?=weight$|bias$)", "pre_mlp_layernorm."),
        # before the projector had kinds
        (r"\bmm_linear_adapter\.linear\b", "mm_projector_adapter.mm_projector"),
    )
)

_STACKED = re.compile(r"^decoder\.layers\.(?!\d+\.)")

_PROJECTOR_PARTS: dict[ProjectorKind, dict[str, str]] = {
    # canonical layer: index in NeMo's Sequential
    "linear": {"linear_1": ""},
    "mlp2x_gelu": {"linear_1": "0.", "linear_2": "2."},
    "mlp_downsample": {"norm": "1.", "linear_1": "2.", "linear_2": "4."},
}


def common_name(name: str) -> str | None:
    """Our spelling; None for what is no weight."""
    if _IGNORED.search(name):
        return None
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def in_common_names(
    tensors: dict[str, TiledTensor],
) -> tuple[dict[str, TiledTensor], list[str]]:
    """Tensors under common names, stacked layers taken apart; and what is there twice."""
    found: dict[str, TiledTensor] = {}
    problems: list[str] = []
    for raw, tensor in tensors.items():
        name = common_name(raw)
        if name is None:
            continue
        parts = {name: tensor}
        if _STACKED.match(name) and tensor.shape:
            parts = {
                _STACKED.sub(f"decoder.layers.{layer}.", name): _layer(tensor, layer)
                for layer in range(tensor.shape[0])
            }
        for part_name, part in parts.items():
            if part_name in found:
                problems.append(f"{raw} is the same tensor as {found[part_name].origin}")
            found[part_name] = part
    return found, problems


def _layer(stacked: TiledTensor, layer: int) -> TiledTensor:
    tiles = tuple(
        Tile(
            tile.start[1:],
            _at(tile, layer),
            tile.source_start[1:],
            tile.shape[1:],
        )
        for tile in stacked.tiles
        if tile.start[0] <= layer < tile.start[0] + tile.shape[0]
    )
    return TiledTensor(stacked.shape[1:], stacked.dtype, tiles, f"{stacked.origin}[{layer}]")


def _at(tile: Tile, layer: int) -> StoredTensor:
    return tile.source.at(layer - tile.start[0] + tile.source_start[0])


def language_shapes(shape: LanguageShape) -> dict[str, Shape]:
    """Common name and shape of every tensor of the language model.

    The vocabulary may be padded, differently by the parallel size the model was built with.
    """
    hidden = shape.hidden_size
    shapes: dict[str, Shape] = {"embedding.word_embeddings.weight": (-shape.vocab_size, hidden)}
    if not shape.ties_embeddings:
        shapes["output_layer.weight"] = (-shape.vocab_size, hidden)
    norms = ["decoder.final_layernorm."]
    for layer in range(shape.num_layers):
        prefix = f"decoder.layers.{layer}."
        norms += [prefix + "input_layernorm.", prefix + "pre_mlp_layernorm."]
        for target, (rows, columns) in _matrix_shapes(shape).items():
            matrix = prefix + ADAPTED[target][0]
            shapes[matrix + ".weight"] = (rows, columns)
            if shape.mlp_bias or (target == "attention_qkv" and shape.qkv_bias):
                shapes[matrix + ".bias"] = (rows,)
    for norm in norms:
        shapes[norm + "weight"] = (hidden,)
        if shape.norm == "layernorm":
            shapes[norm + "bias"] = (hidden,)
    return shapes


def _matrix_shapes(shape: LanguageShape) -> dict[AdapterTarget, tuple[int, int]]:
    """Rows and columns of a layer's four matrices."""
    hidden, queries = shape.hidden_size, shape.num_heads * shape.head_dim
    return {
        "attention_qkv": (queries + 2 * shape.num_kv_heads * shape.head_dim, hidden),
        "attention_dense": (hidden, queries),
        "mlp_fc1": (shape.ffn_size * (2 if shape.gated else 1), hidden),
        "mlp_fc2": (hidden, shape.ffn_size),
    }


def adapter_shapes(shape: LanguageShape, adapters: Adapters) -> dict[str, Shape]:
    """Common name and shape of the LoRA adapters in every layer."""
    shapes: dict[str, Shape] = {}
    sizes = _matrix_shapes(shape)
    for layer in range(shape.num_layers):
        for target in adapters.targets:
            prefix = f"decoder.layers.{layer}.{ADAPTED[target][1]}."
            rows, columns = sizes[target]
            shapes[prefix + "linear_in.weight"] = (adapters.dim, columns)
            shapes[prefix + "linear_out.weight"] = (rows, adapters.dim)
    return shapes


def projector_names(kind: ProjectorKind) -> dict[str, str]:
    """Common name of each projector tensor by its canonical one."""
    return {
        f"multi_modal_projector.{layer}.{part}": f"{PROJECTOR}{index}{part}"
        for layer, index in _PROJECTOR_PARTS[kind].items()
        for part in ("weight", "bias")
    }


def projector_shapes(vision: VisionShape, hidden: int) -> dict[str, Shape]:
    """Canonical name and shape of the projector's tensors."""
    merged = vision.hidden_size * (4 if vision.projector == "mlp_downsample" else 1)
    shapes: dict[str, Shape] = {"multi_modal_projector.linear_1.weight": (hidden, merged)}
    layers = ["linear_1"]
    if vision.projector != "linear":
        shapes["multi_modal_projector.linear_2.weight"] = (hidden, hidden)
        layers.append("linear_2")
    if vision.projector_bias:
        shapes |= {f"multi_modal_projector.{layer}.bias": (hidden,) for layer in layers}
    if vision.projector == "mlp_downsample":
        shapes["multi_modal_projector.norm.weight"] = (merged,)
        shapes["multi_modal_projector.norm.bias"] = (merged,)
    return shapes
