"""The kind `DropFolder`: a watched prefix and the template of the jobs that its files become."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from pydantic.alias_generators import to_camel

from neva.spec import JobParts, Metadata
from neva.spec_base import CamelModel, FolderUri, Uri

DROP_FOLDER_KIND = "DropFolder"

_Annotations = Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
_Labels = Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=64)]


class SqsQueue(CamelModel):
    """A queue of S3 event notifications."""

    queue_url: str = Field(
        min_length=1, max_length=2048, pattern=r"^https?://", description="The queue's URL."
    )


class Done(CamelModel):
    """What happens to a file once its job has succeeded."""

    action: Literal["move", "tag", "keep"] = Field(
        "move",
        description="move: to the prefix, where it is not looked at again; tag: the object gets "
        "the tag neva-batch.dev/job; keep: it stays as it is. A failed job's input always stays, "
        "with its errors beside it.",
    )
    prefix: str = Field(
        "done/",
        min_length=1,
        max_length=1024,
        pattern=r"^[^/].*/$",
        description="For move: folder below the watched one.",
    )


class TemplateInput(CamelModel):
    """What a dropped file's job is asked of; the prompts are the file itself."""

    media_base_path: Uri | None = Field(
        None,
        description="Prefix or folder that the records' media names are relative to; the folder "
        "of the dropped file by default.",
    )
    media_type: Literal["video", "image"] | None = Field(
        None, description="Which key of a record names its media, video or image."
    )


class TemplateSpec(JobParts):
    """A job's spec without what the drop brings along: prompts and output."""

    input: TemplateInput = Field(
        default_factory=TemplateInput, description="Where the media of dropped files is."
    )


class TemplateMetadata(CamelModel):
    """What every job of the folder is marked with."""

    labels: _Labels = Field({}, description="Labels of the jobs.")
    annotations: _Annotations = Field({}, description="Annotations of the jobs.")


class JobTemplate(CamelModel):
    """What a dropped file becomes."""

    metadata: TemplateMetadata = Field(
        default_factory=TemplateMetadata, description="Labels and annotations of the jobs."
    )
    spec: TemplateSpec = Field(
        description="The jobs' spec without input.prompts and output, which come from the drop."
    )


class DropFolderSpec(CamelModel):
    """Which prefix is watched and what becomes of what is dropped there."""

    uri: FolderUri = Field(
        description="Watched prefix, ending in '/': every *.jsonl in it, or folder closed by the "
        "marker, becomes a job."
    )
    poll_seconds: int = Field(
        30, ge=1, le=86400, description="Pause between two listings; ten times as long with sqs."
    )
    settle_seconds: int = Field(
        60, ge=0, le=86400, description="A file must not have changed for so long."
    )
    marker: str = Field(
        "_READY",
        min_length=1,
        max_length=256,
        pattern=r"^[^/]+$",
        description="Name of the empty object that closes a folder with prompts.jsonl and media.",
    )
    sqs: SqsQueue | None = Field(
        None,
        description="S3 event notifications, which are heeded between two listings; the queue "
        "belongs to this folder alone.",
    )
    concurrency: int = Field(
        4, ge=1, le=1000, description="Most unfinished jobs of the folder at a time."
    )
    suspend: StrictBool = Field(False, description="Make no new jobs; those that run go on.")
    done: Done = Field(
        default_factory=Done, description="What happens to a file once its job has ended."
    )
    output_base: FolderUri = Field(
        description="Prefix, ending in '/', below which every job writes to a folder of its name."
    )
    template: JobTemplate = Field(description="What a dropped file becomes.")

    @classmethod
    def cross_problems(cls, data: dict[str, Any]) -> Iterator[tuple[str, str]]:
        watched, written = data.get("uri"), data.get("outputBase")
        if isinstance(watched, str) and isinstance(written, str) and written.startswith(watched):
            # Answers are *.jsonl, too: they would become jobs without end.
            yield "outputBase", "must not lie below uri, which is watched"


class DropFolder(BaseModel):
    """A whole drop folder."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)

    api_version: Literal["neva-batch.dev/v1alpha1"]
    kind: Literal["DropFolder"]
    metadata: Metadata
    spec: DropFolderSpec
    status: dict[str, Any] | None = Field(None, exclude=True)
