"""The job spec: group `neva-batch.dev`, version `v1alpha1`, kind `VideoNevaJob`.

The one source of the custom resource's schema, of the documentation and of validation everywhere.
Kubernetes-side fields are camelCase; the block `inference` keeps the snake_case keys of the
original's `neva_inference.yaml`, so such a block can be pasted in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import InitErrorDetails, PydanticCustomError

API_VERSION = "neva-batch.dev/v1alpha1"
KIND = "VideoNevaJob"

_URI = re.compile(r"^(s3://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/.*)?|file:///.+|[^:]+)$")


def _check_uri(uri: str) -> str:
    if not _URI.match(uri):
        raise ValueError("must be s3://bucket/path, file:///path or a local path")
    return uri


def _check_dns_label(name: str) -> str:
    if len(name) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name):
        raise ValueError("must be lower case letters, digits and '-', 63 characters at most")
    return name


def _null_word(value: object) -> object:
    """YAML written for Hydra says `null` in quotes now and then."""
    return None if value in ("null", "None") else value


Uri = Annotated[str, AfterValidator(_check_uri)]
MediaSide = Annotated[Literal["left", "right"] | None, BeforeValidator(_null_word)]


class _CheckedModel(BaseModel):
    """Adds rules between fields to the errors of the fields, so that a user sees all at once."""

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """(key, words) of each broken rule; `data` is raw and may be wrong in other ways, too."""
        yield from ()

    @model_validator(mode="wrap")
    @classmethod
    def _check_all(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        errors: list[InitErrorDetails] = []
        model = None
        try:
            model = handler(data)
        except ValidationError as error:
            errors = [_as_init_error(dict(item)) for item in error.errors()]
        if isinstance(data, dict):
            for key, words in cls.cross_problems(data):
                kind = PydanticCustomError("cross_field", "{words}", {"words": words})
                errors.append(InitErrorDetails(type=kind, loc=(key,), input=data))
        if model is None or errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return model


def _as_init_error(item: dict[str, Any]) -> InitErrorDetails:
    kind = PydanticCustomError(item["type"], "{words}", {"words": item["msg"]})
    return InitErrorDetails(type=kind, loc=item["loc"], input=item["input"])


class _CamelModel(_CheckedModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class _SnakeModel(_CheckedModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Quantization(_CamelModel):
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
        "divide what each rank has of a matrix's inputs. Smaller is more exact and takes more "
        "memory.",
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


class Compat(_CamelModel):
    """Quirks of the original by name; the defaults are the right thing."""

    color_order: Literal["rgb", "bgr"] | None = Field(
        None,
        description="Channel order of videos that the tower sees, bgr for checkpoints trained up "
        "to rc0; null takes the checkpoint's, rgb unless it says otherwise.",
    )
    clean_response: Literal["exact", "nemo-rc0", "nemo-rc1"] = Field(
        "exact",
        description="How `response` is cut out of the generated text; nemo-rc0 and nemo-rc1 lose "
        "letters and answer with whole prompts, as the original does.",
    )
    repetition_penalty: Literal["applied", "nemo-rc0"] = Field(
        "applied",
        description="nemo-rc0: without compute_logprob the penalty has no effect; with it, it "
        "takes in the prompt and makes tokens with negative logits likelier.",
    )
    output_format: Literal["batch", "nemo-rc0", "nemo-rc1"] = Field(
        "batch", description="Keys of the output records."
    )


class Model(_CamelModel):
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
        "bf16", description="Type of weights and activations."
    )
    quantization: Quantization = Field(default_factory=Quantization)
    compat: Compat = Field(default_factory=Compat)


class Input(_CamelModel):
    """What is asked, about which media."""

    prompts: Uri = Field(description="JSON Lines file, one prompt a line.")
    media_base_path: Uri | None = Field(
        None, description="Prefix, folder or .tar that the records' media names are relative to."
    )
    media_type: Literal["video", "image"] | None = Field(
        None, description="Which key of a record names its media."
    )


class Inference(_SnakeModel):
    """Sampling and prompt layout, with the keys and defaults of `neva_inference.yaml`."""

    greedy: StrictBool = Field(
        False, description="Take the most probable token; the sampling keys are not used then."
    )
    top_k: int = Field(0, ge=0, description="Keep the k most probable tokens; 0 keeps all.")
    top_p: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Keep the smallest set of tokens with more than this probability mass; "
        "0 and 1 keep all.",
    )
    temperature: float = Field(0.2, gt=0, le=100, description="Logits are divided by it.")
    add_BOS: StrictBool = Field(  # noqa: N815
        False,
        description="Put the tokenizer's begin token before the prompt, where nothing else does.",
    )
    tokens_to_generate: int = Field(256, ge=1, le=65536, description="Most new tokens of a row.")
    all_probs: StrictBool = Field(
        False, description="With compute_logprob: the log probabilities of the whole vocabulary."
    )
    repetition_penalty: float = Field(
        1.2, ge=1, le=10, description="Makes tokens already generated less likely; 1 is off."
    )
    min_tokens_to_generate: int = Field(
        0,
        ge=0,
        description="The end token can't come before so many new tokens; end_strings still can.",
    )
    compute_logprob: StrictBool = Field(
        False, description="Write each generated token's log probability to `logprobs`."
    )
    end_strings: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        ("<extra_id_1>", "<extra_id_7>"),
        description="Texts that end an answer, beside the tokenizer's end token and the prompt "
        "template's own.",
    )
    media_base_path: Uri | None = Field(
        None, description="The guide's place for input.mediaBasePath."
    )
    media_type: Literal["video", "image"] | None = Field(
        None, description="The guide's place for input.mediaType."
    )
    insert_media_token: MediaSide = Field(
        "left",
        description="Where the media goes: left or right of the text, or null when each text "
        "names it with <video> or <image>.",
    )
    num_frames: int | None = Field(
        None, ge=1, le=1024, description="Frames a video is seen in; null takes the checkpoint's."
    )
    splice_single_frame: Annotated[
        Literal["first", "middle", "last"] | None, BeforeValidator(_null_word)
    ] = Field(
        None, description="Show this one frame of each video; num_frames must be null or 1 then."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Sampling seed of the job.")

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        least, most = data.get("min_tokens_to_generate", 0), data.get("tokens_to_generate", 256)
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield "min_tokens_to_generate", f"is larger than tokens_to_generate ({most})"
        if _null_word(data.get("splice_single_frame")) and data.get("num_frames") not in (None, 1):
            yield "num_frames", "must be null or 1 with splice_single_frame"
        if data.get("all_probs") is True and data.get("compute_logprob") is not True:
            yield "all_probs", "needs compute_logprob"


class Output(_CamelModel):
    """Where everything of the run is written."""

    uri: Uri = Field(description="Prefix or folder; it belongs to this job alone.")


class Workers(_CamelModel):
    """The pods that answer."""

    replicas: int = Field(1, ge=1, le=10000, description="Worker pods.")
    gpus_per_worker: int | None = Field(
        None, ge=0, le=64, description="Tensor x pipeline parallel size by default; 0 runs on CPU."
    )
    queue_name: str | None = Field(None, description="Kueue LocalQueue of the worker Job.")
    pod_template: dict[str, Any] | None = Field(
        None, description="Merged over the worker pod's template."
    )


class Shards(_CamelModel):
    """How the prompts are divided."""

    max_rows: int = Field(64, ge=1, le=100_000, description="Most rows of one shard.")


class Failure(_CamelModel):
    """What failures mean."""

    max_attempts: int = Field(
        3, ge=1, le=100, description="Attempts of a shard before its rows are tried apart."
    )
    fail_on_error: StrictBool | Annotated[float, Field(ge=0)] = Field(
        0.05,
        description="true: any failed row fails the job; false: none does; below 1: the share of "
        "rows that may fail; from 1 on: the number of rows that may fail.",
    )

    def tolerates(self, num_failed: int, num_rows: int) -> bool:
        """Whether the job is still good with `num_failed` of `num_rows` rows failed."""
        if self.fail_on_error is True:
            return num_failed == 0
        if self.fail_on_error is False:
            return True
        limit = self.fail_on_error
        return num_failed <= (limit * num_rows if limit < 1 else limit)


class Judge(_CamelModel):
    """The model that scores the answers, behind an OpenAI-compatible API."""

    endpoint: str = Field(
        "https://integrate.api.nvidia.com/v1", pattern=r"^https?://", description="Base URL."
    )
    model: str = Field("mistralai/mixtral-8x7b-instruct-v0.1", min_length=1, description="Judge.")
    api_key_secret: str | None = Field(
        None, description="Secret with the key API_TOKEN; locally the variable API_TOKEN."
    )
    questions: Uri | None = Field(None, description="Question file; the job's prompts by default.")
    context: Uri | None = Field(None, description="Captions that stand in for the media.")
    rules: Uri | None = Field(None, description="Rule file; the project's own rubric by default.")
    against: tuple[Uri, ...] = Field(
        min_length=1, description="Answer files to compare the answers with."
    )
    both_orders: StrictBool = Field(True, description="Ask twice, with the answers swapped.")
    concurrency: int = Field(8, ge=1, le=1024, description="Most requests at a time.")
    max_tokens: int = Field(1024, ge=1, description="Most tokens of one review.")


class JobSpec(_CamelModel):
    """Everything a user asks for."""

    model: Model
    input: Input
    inference: Inference = Field(default_factory=Inference)
    output: Output
    workers: Workers = Field(default_factory=Workers)
    shards: Shards = Field(default_factory=Shards)
    failure: Failure = Field(default_factory=Failure)
    judge: Judge | None = None
    suspend: StrictBool = Field(False, description="Stop the workers; finished rows are kept.")
    ttl_seconds_after_finished: int | None = Field(None, ge=0, description="Then delete the job.")

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        def get(block: str, key: str, default: Any = None) -> Any:
            value = data.get(block)
            return value.get(key, default) if isinstance(value, dict) else default

        tensor = get("model", "tensorParallelSize", 1)
        pipeline = get("model", "pipelineParallelSize", 1)
        gpus = get("workers", "gpusPerWorker")
        if all(isinstance(n, int) for n in (tensor, pipeline, gpus)) and gpus not in (
            0,
            tensor * pipeline,
        ):
            yield "workers.gpusPerWorker", f"is {gpus}; the ranks are {tensor} x {pipeline}"
        for here, there in (("mediaBasePath", "media_base_path"), ("mediaType", "media_type")):
            ours, guides = get("input", here), get("inference", there)
            if ours and guides and ours != guides:
                yield f"input.{here}", f"differs from inference.{there}"
        if "image" in (get("input", "mediaType"), get("inference", "media_type")):
            if get("inference", "num_frames") not in (None, 1):
                yield "inference.num_frames", "must be null or 1: an image is one frame"
            if _null_word(get("inference", "splice_single_frame")) is not None:
                yield "inference.splice_single_frame", "must be null: it is for videos"
        if not get("input", "mediaBasePath") and not get("inference", "media_base_path"):
            yield "input.mediaBasePath", "missing"

    @property
    def media_base_path(self) -> str:
        return self.input.media_base_path or self.inference.media_base_path or ""

    @property
    def media_type(self) -> Literal["video", "image"]:
        return self.input.media_type or self.inference.media_type or "video"


class Metadata(BaseModel):
    """Kubernetes object metadata; only the name matters outside a cluster."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, AfterValidator(_check_dns_label)]


class VideoNevaJob(BaseModel):
    """A whole job file."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    api_version: Literal["neva-batch.dev/v1alpha1"]
    kind: Literal["VideoNevaJob"]
    metadata: Metadata
    spec: JobSpec
    status: dict[str, Any] | None = Field(None, exclude=True)
