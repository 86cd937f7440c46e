"""A NeMo 1 checkpoint as a checkpoint: projector, language model, tower, adapters, put together.

A NeVA .nemo holds its projector always, the language model unless it was frozen in training, and
the vision tower hardly ever. What is not in it comes from `LocalModel.base` and `.vision`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from math import prod

import torch
from transformers import CLIPVisionConfig

from neva.archive import Archive
from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.nemo_config import LanguageConfig, MediaConfig, NemoConfig
from neva.reasons import Reason
from worker.checkpoint.base import Checkpoint, refuse, shape_problems
from worker.checkpoint.nemo_layouts import read_weights
from worker.checkpoint.nemo_names import (
    ADAPTER,
    PROJECTOR,
    TOWER,
    adapter_shapes,
    in_common_names,
    language_shapes,
    projector_names,
    projector_shapes,
)
from worker.checkpoint.nemo_rotary import inverse_frequencies
from worker.checkpoint.nemo_views import canonical_tensors
from worker.checkpoint.stored import TiledTensor
from worker.checkpoint.tower import Tower, open_tower, read_tower_config
from worker.engine.architecture import LanguageShape, LlavaShape, TowerConfig, VisionShape

Tensors = dict[str, TiledTensor]
_MAY_DIFFER_FROM_BASE = ("context_tokens",)


class NemoWeights:
    """Checked tensors under canonical names; adapters are merged as they are read."""

    def __init__(self, tensors: Tensors, tower: Tower, adapter_scale: float) -> None:
        self._tensors = tensors
        self._tower = tower
        self._adapter_scale = adapter_scale

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        """In the stored precision; in float32 where an adapter is merged in."""
        if name.startswith("vision_tower."):
            return self._tower.read(name, rows, columns)
        part = self._tensors[name].read(rows, columns)
        outer = self._tensors.get(f"{name}.lora_out")
        if outer is None:
            return part
        inner = self._tensors[f"{name}.lora_in"]
        change = outer.read(rows).float() @ inner.read(slice(None), columns).float()
        return part.float() + self._adapter_scale * change


@contextmanager
def open_nemo(model: LocalModel) -> Iterator[Checkpoint]:
    """Open a NeVA checkpoint, its base and its tower, and compare all tensors with what they say.

    Raises:
        ConfigError: INVALID_CHECKPOINT, names every missing, unexpected and misshapen tensor;
            UNSUPPORTED_MODEL; INVALID_CONFIG, a part has to be given or must not be.
    """
    archive, base = model.archives()
    config = NemoConfig.read(archive)
    media = config.media()
    profile = model.profile()
    if model.vision is None:
        raise RuntimeError("a profile without a tower")
    language = config.language()
    shape = LlavaShape(
        _language_shape(language, profile.vocab_size),
        _vision_shape(media, read_tower_config(model.vision), config.where),
    )
    stored = read_weights(archive, language.gated)
    found, problems = in_common_names(stored.tensors)
    layout = stored.layout
    inside = _taken(found, TOWER)
    projector = _taken(found, PROJECTOR)
    adapters = {name: found.pop(name) for name in list(found) if ADAPTER in name}
    if found and base is not None:
        raise ConfigError(f"{archive.path} has its own language model; leave model.baseModel out")
    if not found:
        found = _base_tensors(base, config, language, media, problems)
        layout = f"{layout}, projector only"
    if shape.language.ties_embeddings:
        for copy in ("output_layer.weight", "word_embeddings.weight"):  # of the last stage
            found.pop(copy, None)
    problems += shape_problems(_described(found), language_shapes(shape.language))
    names = projector_names(media.projector)
    wanted = projector_shapes(shape.vision, shape.language.hidden_size)
    problems += shape_problems(
        _described(projector), {names[name]: size for name, size in wanted.items()}
    )
    lora = config.adapters()
    problems += shape_problems(
        _described(adapters), {} if lora is None else adapter_shapes(shape.language, lora)
    )
    if language.gated and not stored.by_rank:
        # Each rank's rows of a fused fc1 adapter are gate, then up; how many ranks is not said.
        problems += [
            f"{tensor.origin} lies in {len(tensor.tiles)} parts: its gate and up rows can't be told"
            for name, tensor in adapters.items()
            if "lora_hto4h_adapter.linear_out." in name and len(tensor.tiles) > 1
        ]
    refuse(str(archive.path), "model_config.yaml", problems)
    tensors = canonical_tensors(shape.language, found | adapters)
    tensors |= {name: projector[names[name]] for name in wanted}
    inside = {
        "vision_tower." + name.removeprefix(TOWER).removeprefix("vision_model."): tensor
        for name, tensor in inside.items()
    }
    with open_tower(model.vision, inside) as tower:
        num_bytes = tower.num_bytes + sum(
            prod(t.shape) * t.dtype.itemsize for t in (found | adapters | projector).values()
        )
        weights = NemoWeights(tensors, tower, 0.0 if lora is None else lora.scale)
        yield Checkpoint(shape, weights, layout, num_bytes)


def _taken(tensors: Tensors, prefix: str) -> Tensors:
    return {name: tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def _described(tensors: Tensors) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {name: (tensor.origin, tensor.shape) for name, tensor in tensors.items()}


def _base_tensors(
    base: Archive | None,
    config: NemoConfig,
    language: LanguageConfig,
    media: MediaConfig,
    problems: list[str],
) -> Tensors:
    """The language model that a projector-only checkpoint was made for."""
    if base is None:
        raise ConfigError(
            f"{config.where}: the checkpoint holds no language model (its training took "
            f"{media.base_source!r}); give it as model.baseModel"
        )
    base_config = NemoConfig.read(base)
    theirs = base_config.language()
    differences = [
        f"{field.name} is {getattr(language, field.name)!r} and {getattr(theirs, field.name)!r}"
        for field in fields(LanguageConfig)
        if field.name not in _MAY_DIFFER_FROM_BASE
        and getattr(language, field.name) != getattr(theirs, field.name)
    ]
    if differences:
        raise ConfigError(
            f"{config.where} was made for another language model than {base_config.where}: "
            + "; ".join(differences),
            reason=Reason.INVALID_CHECKPOINT,
        )
    found, twice = in_common_names(read_weights(base, theirs.gated).tensors)
    problems += twice
    return found


def _language_shape(config: LanguageConfig, vocab_size: int) -> LanguageShape:
    frequencies = inverse_frequencies(config)
    not_rotated = config.head_dim // 2 - len(frequencies)
    return LanguageShape(
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
        ffn_size=config.ffn_size,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocab_size=vocab_size,
        context_tokens=config.context_tokens,
        norm_epsilon=config.norm_epsilon,
        inverse_frequencies=(*frequencies, *[0.0] * not_rotated),
        qkv_bias=config.bias or config.qkv_bias,
        output_bias=config.bias,
        mlp_bias=config.bias,
        rotary_scaling=1.0,
        ties_embeddings=config.ties_embeddings,
        norm="rmsnorm" if config.norm == "rmsnorm" else "layernorm",
        norm_offset=1.0 if config.norm == "layernorm1p" else 0.0,
        activation=config.activation,
        gated=config.gated,
        rotary_size=config.rotary_size,
    )


def _vision_shape(media: MediaConfig, tower: TowerConfig, where: str) -> VisionShape:
    layer, num_layers = media.feature_layer, tower.num_hidden_layers
    is_clip = isinstance(tower, CLIPVisionConfig)
    if not isinstance(tower.image_size, int) or not isinstance(tower.patch_size, int):
        raise ConfigError(f"{where}: the tower takes no squares", reason=Reason.UNSUPPORTED_MODEL)
    if not -num_layers - 1 <= layer <= num_layers or media.num_class_tokens != is_clip:
        raise ConfigError(
            f"{where}: vision_select_layer {layer} and class_token_length "
            f"{media.num_class_tokens} don't fit a {'CLIP' if is_clip else 'SigLIP'} of "
            f"{num_layers} layers and {int(is_clip)} class tokens",
            reason=Reason.UNSUPPORTED_MODEL,
        )
    return VisionShape(
        tower=tower,
        image_size=tower.image_size,
        patch_size=tower.patch_size,
        num_channels=tower.num_channels,
        hidden_size=tower.hidden_size,
        num_layers_used=layer if layer >= 0 else num_layers + 1 + layer,
        num_class_tokens=media.num_class_tokens,
        num_dropped=0 if media.keeps_class_tokens else media.num_class_tokens,
        projector_bias=True,
        projector=media.projector,
    )
