"""The CEL rules of the custom resources: what a schema can't say about one field alone.

Each has its twin in the pydantic models (`cross_problems`), except those about time: what a started
job may not change. Paths of a rule are relative to the block it stands at.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.crd_schema import Schema


@dataclass(frozen=True, slots=True)
class Rule:
    """One `x-kubernetes-validations` entry.

    Attributes:
        at: path of the block that it stands at, e.g. "spec.inference"; "" is the whole object.
        field: path of the field that is to blame, relative to the block.
        expression: CEL over `self` (and `oldSelf`, then it holds for changes only).
        message: what the user reads.
        reason: FieldValueInvalid, FieldValueForbidden, FieldValueRequired or FieldValueDuplicate.
    """

    at: str
    field: str
    expression: str
    message: str
    reason: str = "FieldValueInvalid"

    def manifest(self) -> dict[str, str]:
        return {
            "rule": self.expression,
            "message": self.message,
            "fieldPath": f".{self.field}",
            "reason": self.reason,
        }


def add_rules(schema: Schema, rules: list[Rule]) -> None:
    """Put each rule at its block of `schema`, in place."""
    for rule in rules:
        block = schema
        for name in filter(None, rule.at.split(".")):
            block = block["properties"][name]
        block.setdefault("x-kubernetes-validations", []).append(rule.manifest())


def _frozen_once_started(block: str) -> Rule:
    return Rule(
        at="",
        field=f"spec.{block}",
        expression="!has(oldSelf.status) || !has(oldSelf.status.startTime) || "
        f"(has(self.spec.{block}) == has(oldSelf.spec.{block}) && "
        f"(!has(self.spec.{block}) || self.spec.{block} == oldSelf.spec.{block}))",
        message=f"{block} can't be changed once the job has started; apply a job of another name",
        reason="FieldValueForbidden",
    )


def _job_parts(at: str) -> list[Rule]:
    """Rules of everything that a job and a drop folder's template have in common."""
    inference = f"{at}.inference"
    return [
        Rule(
            at=at,
            field="workers.gpusPerWorker",
            expression="!has(self.workers) || !has(self.workers.gpusPerWorker) || "
            "self.workers.gpusPerWorker == 0 || self.workers.gpusPerWorker == "
            "self.model.tensorParallelSize * self.model.pipelineParallelSize",
            message="must be model.tensorParallelSize x model.pipelineParallelSize, or 0 for CPU",
        ),
        _twins(at, "mediaBasePath", "media_base_path"),
        _twins(at, "mediaType", "media_type"),
        _videos_only(at, "num_frames", " || self.inference.num_frames == 1", "null or 1"),
        _videos_only(at, "splice_single_frame", "", "null"),
        Rule(
            at=f"{at}.model.quantization",
            field="groupSize",
            expression="!self.enable || self.algorithm == 'awq' || self.groupSize == 64",
            message="is of awq; the other algorithms have no groups",
        ),
        Rule(
            at=f"{at}.media",
            field="rotation",
            expression="self.rotation != 'stored' || !(self.decoder in ['decord', 'torchcodec'])",
            message="these decoders always turn; take pyav or auto",
        ),
        Rule(
            at=inference,
            field="min_tokens_to_generate",
            expression="!has(self.min_tokens_to_generate) || !has(self.tokens_to_generate) || "
            "self.min_tokens_to_generate <= self.tokens_to_generate",
            message="must not be larger than tokens_to_generate",
        ),
        Rule(
            at=inference,
            field="num_frames",
            expression="!has(self.splice_single_frame) || !has(self.num_frames) || "
            "self.num_frames == 1",
            message="must be null or 1 with splice_single_frame",
        ),
        Rule(
            at=inference,
            field="all_probs",
            expression="!has(self.all_probs) || !self.all_probs || "
            "(has(self.compute_logprob) && self.compute_logprob)",
            message="needs compute_logprob",
        ),
    ]


def _twins(at: str, ours: str, guides: str) -> Rule:
    return Rule(
        at=at,
        field=f"input.{ours}",
        expression=f"!has(self.input) || !has(self.input.{ours}) || !has(self.inference) || "
        f"!has(self.inference.{guides}) || self.input.{ours} == self.inference.{guides}",
        message=f"differs from inference.{guides}",
    )


def _videos_only(at: str, key: str, or_else: str, allowed: str) -> Rule:
    """A key about the frames of a video, which an image has one of."""
    return Rule(
        at=at,
        field=f"inference.{key}",
        expression=f"!has(self.inference) || !has(self.inference.{key}){or_else} || "
        "!((has(self.inference.media_type) && self.inference.media_type == 'image') || "
        "(has(self.input) && has(self.input.mediaType) && self.input.mediaType == 'image'))",
        message=f"must be {allowed}: an image is one frame",
    )


_FROZEN = ("model", "input", "media", "inference", "output", "retryOf")

VIDEO_NEVA_JOB_RULES = [
    *(_frozen_once_started(block) for block in _FROZEN),
    *_job_parts("spec"),
    Rule(
        at="spec",
        field="input.mediaBasePath",
        expression="has(self.input.mediaBasePath) || "
        "(has(self.inference) && has(self.inference.media_base_path))",
        message="missing: the records' media names are relative to it",
        reason="FieldValueRequired",
    ),
    Rule(
        at="spec",
        field="retryOf",
        expression="!has(self.retryOf) || (self.retryOf != self.output.uri && "
        "self.retryOf + '/' != self.output.uri && self.retryOf != self.output.uri + '/')",
        message="must not be output.uri: a finished run never changes",
    ),
]

DROP_FOLDER_RULES = [
    *_job_parts("spec.template.spec"),
    Rule(
        at="spec",
        field="outputBase",
        expression="!self.outputBase.startsWith(self.uri)",
        message="must not lie below uri, which is watched",
    ),
]
