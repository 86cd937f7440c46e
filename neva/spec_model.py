"""The block `model` of a job: what answers, and how exactly. Part of `neva.spec`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field, StrictBool

from neva.spec_base import CamelModel, Uri


class Quantization(CamelModel):
    """Quantization of the language model, as `quantization.*` of the original.

    Its matrices in the transformer layers are quantized; embeddings, output layer, projector and
    vision tower are not.
    """

    enable: StrictBool = Field(False, description="Quantize the language model's matrices.")
    algorithm: Literal["awq", "int8_sq", "fp8"] = Field(
        "awq",
        description="awq: weights in 4 bits, which saves memory. int8_sq and fp8: weights and "
        "activations rounded to 8 bits by nvidia-modelopt, which must be installed; that shows "
        "what the rounding does to the answers and saves nothing.",
    )
    group_size: int = Field(
        64,
        ge=8,
        le=1024,
        multiple_of=2,
        description="awq: neighbouring weights of an output that share a scale and a zero. Must "
        "divide a matrix's inputs, and what each rank has of them. Smaller is more exact and takes "
        "more memory.",
    )
    calibration_rows: int = Field(
        32, ge=1, le=4096, description="Prompts that the calibration looks at (num_samples)."
    )
    calibration_prompts: Uri | None = Field(
        None,
        description="Prompts to calibrate on, in the format and with the media of input, or an "
        "earlier run's outputs.jsonl, whose answers are then taken in; null takes the job's own "
        "first rows.",
    )

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        algorithm = data.get("algorithm")
        # A cluster fills the default in, so that one is no sign of a wish.
        default = cls.model_fields["group_size"].default
        has_groups = algorithm not in ("int8_sq", "fp8") or data.get("enable") is not True
        if not has_groups and data.get("groupSize", default) != default:
            yield "groupSize", f"is of awq; {algorithm} has no groups"


class Compat(CamelModel):
    """Quirks of the original by name; the defaults are the right thing."""

    color_order: Literal["rgb", "bgr"] | None = Field(
        None,
        description="Channel order of videos that the tower sees, bgr for checkpoints trained up "
        "to rc0; without it the checkpoint's, rgb unless it says otherwise.",
    )
    clean_response: Literal["exact", "nemo-rc0", "nemo-rc1"] = Field(
        "exact",
        description="How `response` is cut out of the generated text; exact: the new text; "
        "nemo-rc0 and nemo-rc1 lose letters and answer with whole prompts, as the original does.",
    )
    repetition_penalty: Literal["applied", "nemo-rc0"] = Field(
        "applied",
        description="applied: on new tokens, always; nemo-rc0: without compute_logprob the penalty "
        "has no effect; with it, it takes in the prompt and makes tokens with negative logits "
        "likelier.",
    )
    output_format: Literal["batch", "nemo-rc0", "nemo-rc1"] = Field(
        "batch",
        description="Keys of the output records: batch: our own; nemo-rc0 and nemo-rc1: those of "
        "the original's two versions.",
    )


class Model(CamelModel):
    """What answers."""

    uri: Uri = Field(
        description="A Hugging Face LLaVA directory, a .nemo file or an unpacked .nemo directory "
        "(neva_model_file)."
    )
    base_model: Uri | None = Field(
        None, description="Base language model of a projector-only checkpoint (base_model_file)."
    )
    vision_encoder: Uri | None = Field(
        None, description="Directory of the vision tower, where the checkpoint has none."
    )
    tensor_parallel_size: int = Field(
        1, ge=1, le=64, description="Ranks that share each layer (tensor_model_parallel_size)."
    )
    pipeline_parallel_size: int = Field(
        1, ge=1, le=64, description="Stages of layers (pipeline_model_parallel_size)."
    )
    precision: Literal["bf16", "fp16", "fp32"] = Field(
        "bf16",
        description="Type of weights and activations: bf16 (bfloat16), fp16 (half) or fp32 (single "
        "precision).",
    )
    quantization: Quantization = Field(
        default_factory=Quantization, description="Weight quantization."
    )
    compat: Compat = Field(default_factory=Compat, description="Quirks of the original, by name.")
