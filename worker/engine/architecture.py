"""The shape of a model, whatever kind of checkpoint described it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from transformers import CLIPVisionConfig, SiglipVisionConfig

from neva.nemo_config import Activation, ProjectorKind

TowerConfig = CLIPVisionConfig | SiglipVisionConfig


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """A decoder with rotary embedding.

    Attributes:
        ffn_size: width of the MLP's inner layer (intermediate_size).
        inverse_frequencies: of the rotary embedding, head_dim / 2 of them. Zeros at the end stand
            for dimensions that are not rotated.
        rotary_scaling: factor on the rotary tables.
        ties_embeddings: the output layer is the embedding.
        norm: kind of normalisation; a LayerNorm has a bias.
        norm_offset: added to stored norm weights (1 where a checkpoint stores them less 1).
        activation, gated: of the MLP.
        rotary_size: leading dimensions of each head that are rotated, in pairs (i, i + size / 2).
            None: all of them.
        qkv_bias, output_bias, mlp_bias: what has biases: queries, keys and values; attention's
            output; all matrices of the MLP.
    """

    num_layers: int
    hidden_size: int
    ffn_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    context_tokens: int
    norm_epsilon: float
    inverse_frequencies: tuple[float, ...]
    rotary_scaling: float
    ties_embeddings: bool
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_offset: float = 0.0
    activation: Activation = "silu"
    gated: bool = True
    rotary_size: int | None = None
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False


@dataclass(frozen=True, slots=True)
class VisionShape:
    """A CLIP or SigLIP tower and a projector.

    Attributes:
        tower: the whole tower as the checkpoint has it.
        num_layers_used: layers up to the one that the features are taken from.
        num_class_tokens: leading tokens of the tower's output that are no patches: CLIP's one.
        num_dropped: leading tokens of the tower's output that are no features.
        projector_bias: the projector's layers have biases.
        projector: `linear`; `mlp2x_gelu`, two layers; `mlp_downsample`, blocks of 2 x 2 patches
            merged, then norm and two layers.
    """

    tower: TowerConfig
    image_size: int
    patch_size: int
    num_channels: int
    hidden_size: int
    num_layers_used: int
    num_class_tokens: int
    num_dropped: int
    projector_bias: bool
    projector: ProjectorKind = "mlp2x_gelu"

    @property
    def used_tower(self) -> TowerConfig:
        """The part that is computed: up to the layer used, without SigLIP's pooling head."""
        used = {**self.tower.to_dict(), "num_hidden_layers": self.num_layers_used}
        found: TowerConfig
        if isinstance(self.tower, SiglipVisionConfig):
            found = SiglipVisionConfig.from_dict(used | {"vision_use_head": False})
        else:
            found = CLIPVisionConfig.from_dict(used)
        return found

    @property
    def tokens_per_frame(self) -> int:
        side = self.image_size // self.patch_size
        if self.projector == "mlp_downsample":
            return (-(-side // 2)) ** 2  # odd sides are padded
        num_patches: int = side**2
        return num_patches + self.num_class_tokens - self.num_dropped


@dataclass(frozen=True, slots=True)
class LlavaShape:
    language: LanguageShape
    vision: VisionShape
