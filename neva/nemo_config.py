"""model_config.yaml of a NeMo 1 checkpoint, typed: every complaint names the file and the key.

The file holds the model's sub-configuration at top level. What is read from it are its language
model (`LanguageConfig`) and its media part (`MediaConfig`); other keys belong to training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from neva.archive import Archive
from neva.errors import ConfigError
from neva.reasons import Reason

CONFIG_FILE = "model_config.yaml"

Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "squared_relu"]
ProjectorKind = Literal["linear", "mlp2x_gelu", "mlp_downsample"]
AdapterTarget = Literal["attention_qkv", "attention_dense", "mlp_fc1", "mlp_fc2"]

# NeMo's `activation`: (function, gated). The fast-… forms differ in how they compute, not in what.
_ACTIVATIONS: dict[str, tuple[Activation, bool]] = {
    "gelu": ("gelu", False),
    "openai-gelu": ("gelu_tanh", False),
    "relu": ("relu", False),
    "squared-relu": ("squared_relu", False),
    "geglu": ("gelu", True),
    "fast-geglu": ("gelu", True),
    "reglu": ("relu", True),
    "fast-reglu": ("relu", True),
    "swiglu": ("silu", True),
    "fast-swiglu": ("silu", True),
}
_PROJECTORS: tuple[ProjectorKind, ...] = ("linear", "mlp2x_gelu", "mlp_downsample")
# NeMo's `peft.lora_tuning.target_modules`: one matrix each, or several.
_ADAPTER_TARGETS: dict[str, tuple[AdapterTarget, ...]] = {
    "attention_qkv": ("attention_qkv",),
    "attention_dense": ("attention_dense",),
    "mlp_fc1": ("mlp_fc1",),
    "mlp_fc2": ("mlp_fc2",),
    "attention": ("attention_qkv", "attention_dense"),
    "mlp": ("mlp_fc1", "mlp_fc2"),
    "all": ("attention_qkv", "attention_dense", "mlp_fc1", "mlp_fc2"),
}


@dataclass(frozen=True, slots=True)
class Adapters:
    """LoRA adapters on some matrices of every layer.

    Attributes:
        dim: inner size of each.
        scale: factor on what they add, alpha / dim.
    """

    dim: int
    scale: float
    targets: frozenset[AdapterTarget]


@dataclass(frozen=True, slots=True)
class LanguageConfig:
    """The language model that the file describes.

    Attributes:
        norm: kind of normalisation; "layernorm1p" stores its weights less 1.
        activation, gated: of the MLP.
        rotary_size: leading dimensions of each head that are rotated.
        rotary_interpolation: positions are divided by it.
        rotary_is_scaled: frequencies are scaled as in Llama 3.1 (`scale_positional_embedding`).
        bias: all matrices have biases; qkv_bias: queries, keys and values have.
        context_tokens: encoder_seq_length.
    """

    num_layers: int
    hidden_size: int
    ffn_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm: Literal["rmsnorm", "layernorm", "layernorm1p"]
    norm_epsilon: float
    activation: Activation
    gated: bool
    rotary_size: int
    rotary_base: float
    rotary_interpolation: float
    rotary_is_scaled: bool
    bias: bool
    qkv_bias: bool
    ties_embeddings: bool
    context_tokens: int


@dataclass(frozen=True, slots=True)
class MediaConfig:
    """The part of a NeVA checkpoint that turns media into embeddings.

    Attributes:
        vision_source: where its training took the tower from; only shown, never fetched.
        crop_size: side of the square that the tower takes, where the file says it.
        feature_layer: hidden state of the tower that is used, as an index.
        num_class_tokens: leading tokens of the tower that are no patches.
        keeps_class_tokens: they are part of the features.
        template: data.conv_template.
    """

    vision_source: str | None
    crop_size: int | None
    patch_size: int
    vision_hidden_size: int
    feature_layer: int
    num_class_tokens: int
    keeps_class_tokens: bool
    projector: ProjectorKind
    base_source: str | None
    llm_is_frozen: bool
    use_im_start_end: bool
    model_type: str
    template: str
    media_type: str
    num_frames: int | None
    splice_single_frame: str | None
    image_aspect_ratio: str


class NemoConfig:
    """A parsed model_config.yaml."""

    def __init__(self, where: str, data: Mapping[str, Any]) -> None:
        self.where = where
        self._data = data

    @classmethod
    def read(cls, archive: Archive) -> NemoConfig:
        """Raises ConfigError: INVALID_CHECKPOINT, there is none or it is no YAML mapping."""
        where = f"{archive.path}: {CONFIG_FILE}"
        if CONFIG_FILE not in archive.members:
            raise _invalid(f"{archive.path} has no {CONFIG_FILE}; is it a NeMo checkpoint?")
        try:
            data = yaml.safe_load(archive.members[CONFIG_FILE].read())
        except yaml.YAMLError as error:
            raise _invalid(f"{where} is no YAML: {' '.join(str(error).split())}") from error
        if not isinstance(data, dict):
            raise _invalid(f"{where} holds no mapping")
        return cls(where, data)

    @property
    def is_neva(self) -> bool:
        """It describes a multimodal model, not a language model alone."""
        return isinstance(self._data.get("mm_cfg"), dict)

    @property
    def tensor_parallel_size(self) -> int:
        return self._integer("tensor_model_parallel_size", 1)

    @property
    def pipeline_parallel_size(self) -> int:
        return self._integer("pipeline_model_parallel_size", 1)

    def adapters(self) -> Adapters | None:
        """The LoRA adapters, or None where the checkpoint has none.

        Raises ConfigError: UNSUPPORTED_MODEL, adapters of another kind or in other places.
        """
        scheme = self.value("peft.peft_scheme")
        if scheme in (None, "none"):
            return None
        if scheme != "lora":
            raise _unsupported(f"{self.where}: peft.peft_scheme is {scheme!r}, only lora is known")
        lora = "peft.lora_tuning"
        for key, known in (("variant", "nemo"), ("weight_tying", False), ("layer_selection", None)):
            if (found := self.value(f"{lora}.{key}", known)) != known:
                raise _unsupported(f"{self.where}: {lora}.{key} is {found!r}, only {known!r}")
        targets = self.value(f"{lora}.target_modules", ["attention_qkv"])
        if not isinstance(targets, list) or not {*map(str, targets)} <= _ADAPTER_TARGETS.keys():
            raise _unsupported(
                f"{self.where}: {lora}.target_modules is {targets!r}, only "
                f"{', '.join(_ADAPTER_TARGETS)} are known"
            )
        dim = self._integer(f"{lora}.adapter_dim", 32)
        return Adapters(
            dim=dim,
            scale=self._number(f"{lora}.alpha", dim) / dim,
            targets=frozenset(part for target in targets for part in _ADAPTER_TARGETS[target]),
        )

    def language(self) -> LanguageConfig:
        """Raises ConfigError: INVALID_CHECKPOINT or UNSUPPORTED_MODEL, which names all problems."""
        self._refuse_unknown_parts()
        hidden, heads = self._integer("hidden_size"), self._integer("num_attention_heads")
        head_dim = self._integer("kv_channels", hidden // heads)
        activation, gated = _ACTIVATIONS[str(self.value("activation", "gelu"))]
        return LanguageConfig(
            num_layers=self._integer("num_layers"),
            hidden_size=hidden,
            ffn_size=self._integer("ffn_hidden_size", 4 * hidden),
            num_heads=heads,
            num_kv_heads=self._integer("num_query_groups", heads),
            head_dim=head_dim,
            norm=self.value("normalization", "layernorm1p"),
            norm_epsilon=self._number("layernorm_epsilon", 1e-5),
            activation=activation,
            gated=gated,
            rotary_size=int(head_dim * self._number("rotary_percentage", 1.0)),
            rotary_base=self._number("rotary_base", 10000.0),
            rotary_interpolation=self._number("seq_len_interpolation_factor", 1.0),
            rotary_is_scaled=bool(self.value("scale_positional_embedding", False)),
            bias=bool(self.value("bias", True)),
            qkv_bias=bool(self.value("qkv_bias", False)),
            ties_embeddings=bool(self.value("share_embeddings_and_output_weights", True)),
            context_tokens=self._integer("encoder_seq_length"),
        )

    def _refuse_unknown_parts(self) -> None:
        checks: tuple[tuple[str, object, tuple[object, ...]], ...] = (
            ("activation", "gelu", tuple(_ACTIVATIONS)),
            ("normalization", "layernorm1p", ("rmsnorm", "layernorm", "layernorm1p")),
            ("position_embedding_type", "learned_absolute", ("rope",)),
            ("bias", True, (True, False)),
            ("qkv_bias", False, (True, False)),
            ("transformer_block_type", "pre_ln", ("pre_ln",)),
            ("num_moe_experts", None, (None, 0, 1)),
            ("window_size", None, (None,)),
            ("qk_layernorm", False, (False, None)),
            ("scale_positional_embedding", False, (True, False)),
            ("headscale", False, (False, None)),
        )
        problems = [
            f"{key} is {found!r} (only {' or '.join(map(repr, known))})"
            for key, default, known in checks
            if (found := self.value(key, default)) not in known
        ]
        if problems:
            raise _unsupported(
                f"{self.where} describes a language model that is not supported: "
                + "; ".join(problems)
            )

    def media(self) -> MediaConfig:
        """Raises ConfigError: INVALID_CHECKPOINT or UNSUPPORTED_MODEL."""
        if not self.is_neva:
            raise _unsupported(f"{self.where} has no mm_cfg: a language model alone, no NeVA")
        projector = self.value("mm_cfg.mm_mlp_adapter_type", "linear")
        if projector not in _PROJECTORS:
            raise _unsupported(
                f"{self.where}: mm_cfg.mm_mlp_adapter_type is {projector!r}, "
                f"only {', '.join(_PROJECTORS)} are known"
            )
        if self.value("mm_cfg.use_lita", False) or self.value("mm_cfg.lita.lita_video_arch"):
            raise _unsupported(
                f"{self.where}: mm_cfg.use_lita is set; LITA models are not "
                "supported, only NeVA's whose frames are one span of tokens"
            )
        feature = self.value("mm_cfg.vision_encoder.vision_select_feature", "patch")
        if feature not in ("patch", "cls_patch"):
            raise _unsupported(
                f"{self.where}: mm_cfg.vision_encoder.vision_select_feature is {feature!r}"
            )
        model_type = str(self.value("mm_cfg.llm.model_type", "nvgpt"))
        return MediaConfig(
            vision_source=self.value("mm_cfg.vision_encoder.from_pretrained"),
            crop_size=self._crop_size(),
            patch_size=self._integer("mm_cfg.vision_encoder.patch_dim", 14),
            vision_hidden_size=self._integer("mm_cfg.vision_encoder.hidden_size", 1024),
            feature_layer=self._integer("mm_cfg.vision_encoder.vision_select_layer", -2),
            num_class_tokens=self._integer("mm_cfg.vision_encoder.class_token_length", 1),
            keeps_class_tokens=feature == "cls_patch",
            projector=projector,
            base_source=self.value("mm_cfg.llm.from_pretrained"),
            llm_is_frozen=bool(self.value("mm_cfg.llm.freeze", False)),
            use_im_start_end=bool(self.value("mm_cfg.use_im_start_end", False)),
            model_type=model_type,
            template=str(self.value("data.conv_template", model_type)),
            media_type=str(self.value("data.media_type", "image")),
            num_frames=self._optional_integer("data.num_frames"),
            splice_single_frame=self.value("data.splice_single_frame"),
            image_aspect_ratio=str(self.value("data.image_aspect_ratio", "square")),
        )

    def _crop_size(self) -> int | None:
        match self.value("mm_cfg.vision_encoder.crop_size"):
            case None:
                return None
            case [int(height), int(width)] if height == width:
                return height
            case int(side):
                return side
            case other:
                raise _unsupported(
                    f"{self.where}: mm_cfg.vision_encoder.crop_size is {other!r}, not a square"
                )

    def value(self, path: str, default: Any = None) -> Any:
        """What stands at `a.b.c`; the default where there is nothing, null, or Hydra's "null"."""
        found: Any = self._data
        for key in path.split("."):
            if not isinstance(found, Mapping):
                return default
            found = found.get(key)
        return default if found in (None, "null", "None") else found

    def _optional_integer(self, path: str) -> int | None:
        found = self.value(path)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
            raise _invalid(f"{self.where}: {path} must be an integer, not {found!r}")
        return found

    def _integer(self, path: str, default: int | None = None) -> int:
        found = self._optional_integer(path)
        if found is None:
            found = default
        if found is None:
            raise _invalid(f"{self.where} has no {path!r}")
        return found

    def _number(self, path: str, default: float) -> float:
        found = self.value(path, default)
        try:
            return float(found)  # YAML 1.1 reads 1e-5 as a word
        except (TypeError, ValueError) as error:
            raise _invalid(f"{self.where}: {path} must be a number, not {found!r}") from error


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)


def _unsupported(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.UNSUPPORTED_MODEL)
