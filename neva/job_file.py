"""Reads a job file: every problem at once, each with its path, and local paths made absolute."""

from __future__ import annotations

import copy
import difflib
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import orjson
import yaml
from pydantic import BaseModel, ValidationError

from neva.errors import ConfigError
from neva.redact import without_user_info
from neva.spec import Inference, JobSpec, VideoNevaJob
from neva.spec_base import REMOTE_URI_PATTERN

# Kubernetes' own, where a null may mean something.
_FREE = ("podTemplate", "affinity")
_MEDIA_SIDE = "insert_media_token"
_UNION_MEMBERS = ("bool", "constrained-float")
_URI_FIELDS = (
    "model.uri",
    "model.baseModel",
    "model.visionEncoder",
    "model.quantization.calibrationPrompts",
    "input.prompts",
    "input.mediaBasePath",
    "inference.media_base_path",
    "output.uri",
    "retryOf",
    "judge.questions",
    "judge.context",
    "judge.rules",
    "judge.against",
)


class JobFileError(ConfigError):
    """A job file with one or more problems: one in a line, several in a line each.

    Attributes:
        problems: one line each, as `path: what is wrong`.
    """

    def __init__(self, source: str, problems: list[str]) -> None:
        self.problems = problems
        if len(problems) == 1:
            super().__init__(f"{source}: {problems[0]}")
        else:
            super().__init__("\n  ".join([f"{source}: {len(problems)} problems", *problems]))


def load_job(path: Path) -> VideoNevaJob:
    """Read and validate the job file at `path`.

    Relative paths in it are relative to the file, so that a job runs from any folder.

    Raises:
        JobFileError: with all problems.
    """
    return parse_job(with_absolute_paths(read_job_data(path), path.absolute().parent), str(path))


def read_job_data(path: Path) -> dict[str, Any]:
    """A job file as its author wrote it, not validated. Raises JobFileError."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JobFileError(str(path), [f"can't be read: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobFileError(str(path), [f"no YAML: {' '.join(str(error).split())}"]) from error
    if not isinstance(data, dict):
        raise JobFileError(str(path), ["no job: expected a mapping with apiVersion, kind, …"])
    return data


def parse_job(data: dict[str, Any], source: str) -> VideoNevaJob:
    """Validate a job that is already plain data. Raises JobFileError."""
    try:
        job = VideoNevaJob.model_validate(data)
    except ValidationError as error:
        problems = [_problem(dict(item)) for item in error.errors(include_url=False)]
        raise JobFileError(source, problems) from error
    return job


def job_data(job: VideoNevaJob) -> dict[str, Any]:
    """A job as a file holds it, without what is the default anyway."""
    data: dict[str, Any] = job.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    head = {"apiVersion": job.api_version, "kind": job.kind, "metadata": data["metadata"]}
    return {**head, "spec": without_nulls(data["spec"])}


def without_nulls(spec: dict[str, Any]) -> dict[str, Any]:
    """A valid job's spec without its nulls, which an API server drops, too, taking the default.

    Only `insert_media_token` has another default than null: it gets the word.
    """
    found = _without_nulls(spec)
    if _MEDIA_SIDE in (spec.get("inference") or {}):
        found["inference"].setdefault(_MEDIA_SIDE, "null")
    return found


def _without_nulls(block: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(value) if isinstance(value, dict) and key not in _FREE else value
        for key, value in block.items()
        if value is not None
    }


def answer_digest(spec: JobSpec) -> str:
    """Digest of the part of a spec that answers depend on: model, input, media, inference.

    A run may go on with other workers, another failure threshold or another judge, but not with
    another model or other sampling.
    """
    part = spec.model_dump(mode="json", by_alias=True, include={"model", "input", "inference"})
    for key in ("tensorParallelSize", "pipelineParallelSize"):
        part["model"].pop(key)
    if not spec.model.quantization.enable:
        part["model"].pop("quantization")  # its other keys mean nothing then
    if not spec.input.allow_absolute:
        part["input"].pop("allowAbsolute")
    # All decoders give the same frames.
    media = spec.media.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    media.pop("decoder", None)
    if media:
        part["media"] = media
    return hashlib.sha256(orjson.dumps(part, option=orjson.OPT_SORT_KEYS)).hexdigest()


def with_absolute_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The job with its relative local paths taken from `folder`; URIs and the rest as they are."""

    def absolute(value: Any) -> Any:
        if isinstance(value, list):
            return [absolute(item) for item in value]
        if not isinstance(value, str) or not value or ":" in value or Path(value).is_absolute():
            return value
        slash = "/" if value.endswith("/") else ""
        return f"{os.path.realpath(folder / value)}{slash}"

    spec = data.get("spec")
    if not isinstance(spec, dict):
        return data
    spec = copy.deepcopy(spec)
    for _, block, field in _uri_places(spec):
        block[field] = absolute(block[field])
    return {**data, "spec": spec}


def local_paths(data: dict[str, Any]) -> list[tuple[str, str]]:
    """(path in the job, value) of each URI field of a valid job that only this machine can read."""
    found: list[tuple[str, str]] = []
    for path, block, field in _uri_places(data["spec"]):
        uris = block[field] if isinstance(block[field], list) else [block[field]]
        found += [(f"spec.{path}", uri) for uri in uris if uri and not _is_remote(uri)]
    return found


def _is_remote(uri: str) -> bool:
    return re.match(REMOTE_URI_PATTERN, uri) is not None


def _uri_places(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each URI field that is there: its path, the block it is in, its name."""
    for path in _URI_FIELDS:
        *blocks, field = path.split(".")
        block: Any = spec
        for key in blocks:
            block = block.get(key) if isinstance(block, dict) else None
        if isinstance(block, dict) and field in block:
            yield path, block, field


def _problem(item: dict[str, Any]) -> str:
    """One pydantic error as `path: words`."""
    # pydantic names the member of a union that it tried; a reader doesn't care.
    location = [str(part) for part in item["loc"] if str(part) not in _UNION_MEMBERS]
    path = ".".join(location) or "job"
    kind, given = item["type"], item.get("input")
    if kind == "extra_forbidden":
        return f"{path}: unknown key{_nearest(location)}"
    if kind == "missing":
        return f"{path}: missing"
    words = str(item["msg"]).removeprefix("Value error, ")
    words = words[:1].lower() + words[1:]
    if isinstance(given, dict | list | BaseModel):
        return f"{path}: {words}"
    return f"{path}: {words} (got {without_user_info(repr(given))})"


def _nearest(location: list[str]) -> str:
    model: type[BaseModel] | None = VideoNevaJob
    for part in location[:-1]:
        model = _field_model(model, part) if model else None
    if model is None:
        return ""
    known = [field.alias or name for name, field in model.model_fields.items()]
    # Ours is camelCase, the guide's is snake_case: users mix them up.
    squeezed = {name.replace("_", "").lower(): name for name in known}
    near = difflib.get_close_matches(location[-1].replace("_", "").lower(), squeezed, n=1)
    if near:
        return f"; did you mean {squeezed[near[0]]}?"
    if location[-1] in Inference.model_fields and model is not Inference:
        return "; it belongs under spec.inference"
    return ""


def _field_model(model: type[BaseModel], part: str) -> type[BaseModel] | None:
    for name, field in model.model_fields.items():
        if part in (name, field.alias):
            for kind in (field.annotation, *get_args(field.annotation)):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    return kind
    return None
