"""The shape of a model, whatever kind of checkpoint described it."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import CLIPVisionConfig


@dataclass(frozen=True, slots=True)
class LanguageShape:
    """A LLaMA: RMSNorm, rotary embedding on whole heads, gated SiLU, no biases.

    Attributes:
        ffn_size: width of the gated layer (intermediate_size).
        inverse_frequencies: of the rotary embedding, head_dim / 2 of them.
        rotary_scaling: factor on the rotary tables.
        ties_embeddings: the output layer is the embedding.
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


@dataclass(frozen=True, slots=True)
class VisionShape:
    """A CLIP tower and LLaVA's projector.

    Attributes:
        clip: the whole tower as the checkpoint has it.
        num_layers_used: layers up to the one that the features are taken from.
        drops_cls: the features are the patches' alone.
        projector_bias: the projector's two layers have biases.
    """

    clip: CLIPVisionConfig
    image_size: int
    patch_size: int
    num_channels: int
    hidden_size: int
    num_layers_used: int
    drops_cls: bool
    projector_bias: bool

    @property
    def tokens_per_frame(self) -> int:
        num_patches: int = (self.image_size // self.patch_size) ** 2
        return num_patches + (0 if self.drops_cls else 1)


@dataclass(frozen=True, slots=True)
class LlavaShape:
    language: LanguageShape
    vision: VisionShape
