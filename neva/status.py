"""The status subresources of the custom resources: written by the operator, read by everybody."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from neva.conditions import Phase
from neva.spec_base import MAX_INT32, URI_MAX_LENGTH, CamelModel

Count = Annotated[int, Field(ge=0)]
_Text = Annotated[str, Field(max_length=64)]
_Where = Annotated[str, Field(max_length=URI_MAX_LENGTH)]

REASON_PATTERN = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"


class Condition(CamelModel):
    """One question about the object and its answer, as everywhere in Kubernetes."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(
        description="What it is about; one condition per type."
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="True, False or Unknown: whether it is so."
    )
    reason: Annotated[str, Field(min_length=1, max_length=1024, pattern=REASON_PATTERN)] = Field(
        description="Why, as one word for programs."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        "", description="Why, in words for people."
    )
    last_transition_time: datetime = Field(description="When its status last changed.")
    observed_generation: Count | None = Field(
        None, description="The metadata.generation that it was found for."
    )


class RowCounts(CamelModel):
    """Rows of the prompts file."""

    total: Count = Field(0, description="All rows.")
    done: Count = Field(0, description="Settled rows: answered ones and failed ones.")
    failed: Count = Field(0, description="Rows that got no answer.")


class ShardCounts(CamelModel):
    """Shards of the run."""

    total: Count = Field(0, description="All shards.")
    done: Count = Field(0, description="Committed shards.")


Conditions = Annotated[tuple[Condition, ...], Field(max_length=32)]


class VideoNevaJobStatus(CamelModel):
    """How far a job is, how fast, and why it waits."""

    observed_generation: Count | None = Field(
        None, description="The metadata.generation that this status is of."
    )
    phase: Phase | None = Field(
        None,
        description="Where the job is: Pending (not looked at yet), Preparing (store and prompts "
        "are checked), Queued (its workers can't run yet; the condition Queued says why), Running, "
        "Finishing (merge, judge, report), Succeeded, Failed, Suspended (by spec.suspend or "
        "`neva suspend`).",
    )
    run_id: _Text | None = Field(None, description="The run's name in the ledger and the queue.")
    worker_round: Annotated[int, Field(ge=0, le=MAX_INT32)] | None = Field(
        None, description="Number of the latest worker Job."
    )
    start_time: datetime | None = Field(
        None,
        description="When the job was first acted on; from then on model, input, inference and "
        "output can't be changed.",
    )
    finish_time: datetime | None = Field(None, description="When it succeeded or failed.")
    rows: RowCounts | None = Field(None, description="How many rows there are and are done.")
    shards: ShardCounts | None = Field(None, description="How many shards there are and are done.")
    rows_per_second: _Text | None = Field(None, description="Rate of the last minutes, e.g. 12.3.")
    eta: _Text | None = Field(None, description="Expected time to the end, e.g. 12m.")
    score: _Text | None = Field(None, description="The judge's overall score, e.g. 87.5.")
    outputs: _Where | None = Field(None, description="URI of the answers.")
    report: _Where | None = Field(None, description="URI of the report.")
    conditions: Conditions = Field(
        (), description="Validated, Queued, Running, Finished, Judged, Compared."
    )


class FolderJobCounts(CamelModel):
    """Jobs that a drop folder made."""

    active: Count = Field(0, description="Jobs that aren't finished.")
    succeeded: Count = Field(0, description="Jobs that succeeded.")
    failed: Count = Field(0, description="Jobs that failed, and files that made none.")


class DropFolderStatus(CamelModel):
    """What became of what was dropped."""

    observed_generation: Count | None = Field(
        None, description="The metadata.generation that this status is of."
    )
    jobs: FolderJobCounts | None = Field(None, description="How many jobs came of it.")
    last_scan_time: datetime | None = Field(None, description="When the folder was last listed.")
    conditions: Conditions = Field((), description="Ready, Scanned.")
