"""Names and shapes of the tensors in a Hugging Face LLaVA directory.

Two generations of names are in use for the same tensors. Ours ("canonical") have neither's
wrapper: `language_model.layers.0…`, `lm_head.weight`, `vision_tower.encoder…`,
`multi_modal_projector.linear_1…`.
"""

from __future__ import annotations

import re

from worker.engine.architecture import LanguageShape, LlavaShape, TowerConfig
from worker.engine.tower import empty_tower

# Buffers that older versions of transformers stored although they follow from the configuration.
_DERIVED_BUFFERS = re.compile(r"(rotary_emb\.inv_freq|embeddings\.position_ids)$")

_RENAMES = (
    # transformers >= 4.52 wraps everything but the head in `model.`
    (re.compile(r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)"), ""),
    # before, the language model was a whole LlamaForCausalLM
    (re.compile(r"^language_model\.model\."), "language_model."),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    # transformers < 5 had one more level in the tower
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
)


def canonical_name(name: str) -> str | None:
    """Our name of a tensor in a file; None for a buffer that follows from the configuration."""
    if _DERIVED_BUFFERS.search(name):
        return None
    for pattern, replacement in _RENAMES:
        name = pattern.sub(replacement, name)
    return name


def expected_shapes(shape: LlavaShape) -> dict[str, tuple[int, ...]]:
    """Canonical name and shape of every tensor that the architecture has."""
    text, vision = shape.language, shape.vision
    hidden = text.hidden_size
    query_size = text.num_heads * text.head_dim
    kv_size = text.num_kv_heads * text.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "language_model.embed_tokens.weight": (text.vocab_size, hidden),
        "language_model.norm.weight": (hidden,),
        "multi_modal_projector.linear_1.weight": (hidden, vision.hidden_size),
        "multi_modal_projector.linear_2.weight": (hidden, hidden),
    }
    if not text.ties_embeddings:
        shapes["lm_head.weight"] = (text.vocab_size, hidden)
    if vision.projector_bias:
        shapes["multi_modal_projector.linear_1.bias"] = (hidden,)
        shapes["multi_modal_projector.linear_2.bias"] = (hidden,)
    for layer in range(text.num_layers):
        prefix = f"language_model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": (hidden,),
            prefix + "post_attention_layernorm.weight": (hidden,),
            prefix + "self_attn.q_proj.weight": (query_size, hidden),
            prefix + "self_attn.k_proj.weight": (kv_size, hidden),
            prefix + "self_attn.v_proj.weight": (kv_size, hidden),
            prefix + "self_attn.o_proj.weight": (hidden, query_size),
            prefix + "mlp.gate_proj.weight": (text.ffn_size, hidden),
            prefix + "mlp.up_proj.weight": (text.ffn_size, hidden),
            prefix + "mlp.down_proj.weight": (hidden, text.ffn_size),
        }
        shapes |= {prefix + name: size for name, size in _bias_shapes(text).items()}
    return shapes | tower_shapes(vision.tower)


def _bias_shapes(text: LanguageShape) -> dict[str, tuple[int, ...]]:
    """Of one layer."""
    kv_size = text.num_kv_heads * text.head_dim
    shapes: dict[str, tuple[int, ...]] = {}
    if text.qkv_bias:
        shapes["self_attn.q_proj.bias"] = (text.num_heads * text.head_dim,)
        shapes |= {f"self_attn.{name}_proj.bias": (kv_size,) for name in ("k", "v")}
    if text.output_bias:
        shapes["self_attn.o_proj.bias"] = (text.hidden_size,)
    if text.mlp_bias:
        shapes |= {f"mlp.{name}_proj.bias": (text.ffn_size,) for name in ("gate", "up")}
        shapes["mlp.down_proj.bias"] = (text.hidden_size,)
    return shapes


def tower_shapes(config: TowerConfig) -> dict[str, tuple[int, ...]]:
    """Canonical name and shape of every tensor of a tower."""
    tower = empty_tower(config)
    return {f"vision_tower.{name}": tuple(p.shape) for name, p in tower.named_parameters()}
