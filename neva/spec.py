"""The job spec: group `neva-batch.dev`, version `v1alpha1`, kind `VideoNevaJob`.

The one source of the custom resource's schema, of the documentation and of validation everywhere.
Kubernetes-side fields are camelCase; the block `inference` keeps the snake_case keys of the
original's `neva_inference.yaml`, so such a block can be pasted in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel

from neva.spec_base import (
    MAX_INT32,
    CamelModel,
    MediaSide,
    ObjectName,
    SnakeModel,
    Uri,
    check_dns_label,
    null_word,
)
from neva.spec_cluster import Storage, Workers, set_fields

API_VERSION = "neva-batch.dev/v1alpha1"
KIND = "VideoNevaJob"


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


class Input(CamelModel):
    """What is asked, about which media."""

    prompts: Uri = Field(description="JSON Lines file, one prompt a line.")
    media_base_path: Uri | None = Field(
        None,
        description="Prefix, folder, .tar or .tar.gz that media names are relative to.",
    )
    media_type: Literal["video", "image"] | None = Field(
        None,
        description="Which key of a record names its media, video or image; video by default.",
    )
    allow_absolute: StrictBool = Field(
        False,
        description="Let records name media outside mediaBasePath, too: absolute paths and s3:// "
        "URIs, read with the job's own rights. Only for prompts that you trust.",
    )


class Media(CamelModel):
    """How media files are read."""

    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = Field(
        "auto",
        description="Decoder of videos: decord, pyav or torchcodec, which must be installed; auto: "
        "decord, and pyav where decord is not installed, fails or hangs. Each record says which "
        "one it was; all give the same frames.",
    )
    rotation: Literal["upright", "stored"] = Field(
        "upright",
        description="Videos that say they must be turned: upright as a player shows them (as the "
        "original's decoder does), or as they are stored.",
    )
    exif_rotation: Literal["ignored", "applied"] = Field(
        "ignored",
        description="EXIF that says that an image must be turned: ignored, as by the original, or "
        "applied.",
    )

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        if data.get("rotation") == "stored" and data.get("decoder") in ("decord", "torchcodec"):
            yield "rotation", f"{data['decoder']} always turns; take pyav or auto"


class Inference(SnakeModel):
    """Sampling and prompt layout, with the keys and defaults of `neva_inference.yaml`."""

    greedy: StrictBool = Field(
        False, description="Take the most probable token; the sampling keys are not used then."
    )
    top_k: int = Field(
        0, ge=0, le=MAX_INT32, description="Keep the k most probable tokens; 0 keeps all."
    )
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
        le=65536,
        description="The end token can't come before so many new tokens; end_strings still can.",
    )
    compute_logprob: StrictBool = Field(
        False, description="Write each generated token's log probability to `logprobs`."
    )
    end_strings: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        ("<extra_id_1>", "<extra_id_7>"),
        max_length=64,
        description="Texts that end an answer, beside the tokenizer's end token and the prompt "
        "template's own.",
    )
    media_base_path: Uri | None = Field(
        None, description="The guide's place for input.mediaBasePath."
    )
    media_type: Literal["video", "image"] | None = Field(
        None, description="The guide's place for input.mediaType, video or image."
    )
    insert_media_token: MediaSide = Field(
        "left",
        description="Where the media goes: left or right of the text, or null when each text "
        "names it with <video> or <image>; kubectl apply drops a bare null, so write 'null'.",
    )
    num_frames: int | None = Field(
        None, ge=1, le=1024, description="Frames a video is seen in; by default the checkpoint's."
    )
    splice_single_frame: Annotated[
        Literal["first", "middle", "last"] | None, BeforeValidator(null_word)
    ] = Field(
        None,
        description="Show this one frame of each video, the first, the middle or the last; "
        "num_frames must be null or 1 then.",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Sampling seed of the job.")

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        least, most = data.get("min_tokens_to_generate", 0), data.get("tokens_to_generate", 256)
        if isinstance(least, int) and isinstance(most, int) and least > most:
            yield "min_tokens_to_generate", f"is larger than tokens_to_generate ({most})"
        if null_word(data.get("splice_single_frame")) and data.get("num_frames") not in (None, 1):
            yield "num_frames", "must be null or 1 with splice_single_frame"
        if data.get("all_probs") is True and data.get("compute_logprob") is not True:
            yield "all_probs", "needs compute_logprob"


class Output(CamelModel):
    """Where everything of the run is written."""

    uri: Uri = Field(description="Prefix or folder; it belongs to this job alone.")


class Shards(CamelModel):
    """How the prompts are divided."""

    max_rows: int = Field(64, ge=1, le=100_000, description="Most rows of one shard.")


class Failure(CamelModel):
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


class JudgeBudget(CamelModel):
    """What a job's judge may cost, over all runs of the job; questions beyond are not judged."""

    requests: int | None = Field(None, ge=1, le=MAX_INT32, description="Most requests.")
    tokens: int | None = Field(None, ge=1, le=10**15, description="Most tokens, both ways.")
    cost: float | None = Field(None, gt=0, description="Most money, in the currency of the prices.")
    prompt_price: float | None = Field(None, ge=0, description="Of a million prompt tokens.")
    completion_price: float | None = Field(
        None, ge=0, description="Of a million tokens of the judge's replies."
    )


class Judge(CamelModel):
    """The model that scores the answers, behind an OpenAI-compatible API."""

    endpoint: str = Field(
        "https://integrate.api.nvidia.com/v1",
        max_length=2048,
        pattern=r"^https?://",
        description="Base URL of its API.",
    )
    model: str = Field(
        "mistralai/mixtral-8x7b-instruct-v0.1",
        min_length=1,
        max_length=256,
        description="The judge's name there.",
    )
    api_key_secret: ObjectName | None = Field(
        None, description="Secret with the key API_TOKEN; locally the variable API_TOKEN."
    )
    questions: Uri | None = Field(None, description="Question file; the job's prompts by default.")
    context: Uri | None = Field(None, description="Captions that stand in for the media.")
    rules: Uri | None = Field(None, description="Rule file; the project's own rubric by default.")
    against: tuple[Uri, ...] = Field(
        min_length=1, max_length=16, description="Answer files to compare the answers with."
    )
    mode: Literal["scores", "verdict", "single", "reference"] = Field(
        "scores",
        description="scores: both answers from 1 to 10. verdict: A, B or tie. single: each answer "
        "alone from 1 to 10. reference: correct or not by the answers in `against`.",
    )
    both_orders: StrictBool = Field(True, description="Ask twice, with the answers swapped.")
    concurrency: int = Field(
        32, ge=1, le=1024, description="Most requests at a time; fewer if the endpoint pushes back."
    )
    requests_per_minute: int | None = Field(
        None, ge=1, le=1_000_000, description="The endpoint's limit; requests are spaced by it."
    )
    tokens_per_minute: int | None = Field(
        None, ge=1, le=MAX_INT32, description="The endpoint's limit, prompts and replies together."
    )
    budget: JudgeBudget | None = Field(None, description="What the judge may cost.")
    max_tokens: int = Field(1024, ge=1, le=MAX_INT32, description="Most tokens of one review.")
    timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="For one review, however slowly it comes."
    )
    stream: StrictBool = Field(False, description="Have reviews sent in pieces.")
    structured_output: StrictBool = Field(
        True, description="Have reviews sent as JSON by a schema, where the endpoint can."
    )


class JobParts(CamelModel):
    """What a job and a drop folder's template of jobs have in common."""

    model: Model = Field(description="What answers.")
    inference: Inference = Field(
        default_factory=Inference,
        description="Sampling and prompt layout, as the block of neva_inference.yaml.",
    )
    media: Media = Field(default_factory=Media, description="How media files are read.")
    workers: Workers = Field(default_factory=Workers, description="The pods that answer.")
    shards: Shards = Field(default_factory=Shards, description="How the prompts are divided.")
    failure: Failure = Field(default_factory=Failure, description="What failures mean.")
    judge: Judge | None = Field(None, description="The model that scores the answers, if any.")
    storage: Storage | None = Field(
        None, description="Credentials of the object store instead of the release's."
    )
    suspend: StrictBool = Field(
        False, description="Stop the workers and free their GPUs; finished rows are kept."
    )
    active_deadline_seconds: int | None = Field(
        None,
        ge=1,
        le=MAX_INT32,
        description="The job fails when it isn't finished so long after its start; suspended time "
        "counts, too.",
    )
    ttl_seconds_after_finished: int | None = Field(
        None,
        ge=0,
        le=MAX_INT32,
        description="So long after its end the job is deleted, never what it wrote.",
    )

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        tensor = _get(data, "model", "tensorParallelSize", 1)
        pipeline = _get(data, "model", "pipelineParallelSize", 1)
        gpus = _get(data, "workers", "gpusPerWorker")
        if all(isinstance(n, int) for n in (tensor, pipeline, gpus)) and gpus not in (
            0,
            tensor * pipeline,
        ):
            yield "workers.gpusPerWorker", f"is {gpus}; the ranks are {tensor} x {pipeline}"
        for here, there in (("mediaBasePath", "media_base_path"), ("mediaType", "media_type")):
            ours, guides = _get(data, "input", here), _get(data, "inference", there)
            if ours and guides and ours != guides:
                yield f"input.{here}", f"differs from inference.{there}"
        if "image" in (_get(data, "input", "mediaType"), _get(data, "inference", "media_type")):
            if _get(data, "inference", "num_frames") not in (None, 1):
                yield "inference.num_frames", "must be null or 1: an image is one frame"
            if null_word(_get(data, "inference", "splice_single_frame")) is not None:
                yield "inference.splice_single_frame", "must be null: it is for videos"


class JobSpec(JobParts):
    """Everything a user asks for."""

    input: Input = Field(description="What is asked, about which media.")
    output: Output = Field(description="Where everything of the run is written.")
    retry_of: Uri | None = Field(
        None,
        description="output.uri of a finished run: only its failed rows are asked, and output gets "
        "all its answers with theirs. Model, input and inference must be that run's.",
    )

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        yield from super().cross_problems(data)
        if not _get(data, "input", "mediaBasePath") and not _get(
            data, "inference", "media_base_path"
        ):
            yield "input.mediaBasePath", "missing"
        output, retried = _get(data, "output", "uri"), data.get("retryOf")
        if output and retried and str(output).rstrip("/") == str(retried).rstrip("/"):
            yield "retryOf", "must not be output.uri: a finished run never changes"

    def cluster_fields(self) -> list[str]:
        """Paths of what is set here and means something on a cluster only, `gpusPerWorker` apart:
        0 keeps a machine's GPUs unused, too."""
        names = [f"workers.{name}" for name in set_fields(self.workers, Workers())]
        names = [name for name in names if name != "workers.gpusPerWorker"]
        for name in ("storage", "active_deadline_seconds", "ttl_seconds_after_finished"):
            if getattr(self, name) is not None:
                names.append(str(JobSpec.model_fields[name].alias))
        return names

    @property
    def media_base_path(self) -> str:
        return self.input.media_base_path or self.inference.media_base_path or ""

    @property
    def media_type(self) -> Literal["video", "image"]:
        return self.input.media_type or self.inference.media_type or "video"


def _get(data: dict[str, Any], block: str, key: str, default: Any = None) -> Any:
    value = data.get(block)
    return value.get(key, default) if isinstance(value, dict) else default


class Metadata(BaseModel):
    """Kubernetes object metadata; only the name matters outside a cluster."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Annotated[str, AfterValidator(check_dns_label)]


class VideoNevaJob(BaseModel):
    """A whole job file."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    api_version: Literal["neva-batch.dev/v1alpha1"]
    kind: Literal["VideoNevaJob"]
    metadata: Metadata
    spec: JobSpec
    status: dict[str, Any] | None = Field(None, exclude=True)
