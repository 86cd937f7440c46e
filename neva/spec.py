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
    SnakeModel,
    Uri,
    check_dns_label,
    null_word,
)
from neva.spec_cluster import Storage, Workers, set_fields
from neva.spec_judge import Judge
from neva.spec_model import Model

API_VERSION = "neva-batch.dev/v1alpha1"
KIND = "VideoNevaJob"


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
