"""From a neva_inference.yaml's values to a VideoNevaJob's. Pure."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.evaluate.devices import Devices, devices_of
from controller.evaluate.keys import (
    JOB_PATHS,
    KNOWN,
    REFUSED,
    UNREAD,
    in_config_words,
    leaves,
    unknown_key,
)
from neva.errors import ConfigError
from neva.job_file import JobFileError, parse_job
from neva.spec import API_VERSION, KIND, VideoNevaJob

_MISSING = "???"
_REQUIRED = ("neva_model_file", "prompt_file", "output_file", "inference.media_base_path")
_MEDIA_SIDE = "inference.insert_media_token"
_DEFAULT_FORMAT = "nemo-rc0"  # what the guide's mixtral_eval.py reads
_PRECISIONS = {
    "bf16": "bf16",
    "bf16-mixed": "bf16",
    "bf16-true": "bf16",
    "16": "fp16",
    "16-mixed": "fp16",
    "16-true": "fp16",
    "fp16": "fp16",
    "32": "fp32",
    "32-true": "fp32",
    "fp32": "fp32",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a configuration asks for.

    Attributes:
        spec: of the job, but for `output`; paths as they were given.
        output_file: as it was given.
        notes: what has no effect, for a person.
    """

    spec: dict[str, Any]
    output_file: str
    devices: Devices
    notes: tuple[str, ...]

    def job(self, name: str, output_uri: str, *, on_cpu: bool) -> dict[str, Any]:
        """The job as data, its ranks on GPUs or on CPUs."""
        workers = {"workers": {"gpusPerWorker": 0}} if on_cpu else {}
        return _job(name, {**copy.deepcopy(self.spec), **workers}, output_uri)


def asked_by(config: Mapping[str, Any], source: str) -> Asked:
    """What the configuration asks for.

    Args:
        source: its file, for complaints.

    Raises:
        JobFileError: keys are unknown, missing, refused or have wrong values: all that is wrong,
            by the configuration's own keys.
        ConfigError: the devices don't fit the ranks, or the precision is unknown.
    """
    values = dict(leaves(config))
    _require_good_keys(values, source)
    values.setdefault("compat.output_format", _DEFAULT_FORMAT)
    if "trainer.precision" in values:
        values["trainer.precision"] = _precision(values["trainer.precision"])
    if values.get("quantization.enable") in (None, False):
        # The other keys are not read then, whatever they say.
        values = {key: v for key, v in values.items() if not key.startswith("quantization.")}
    spec: dict[str, Any] = {}
    if values.get(_MEDIA_SIDE, "") is None:
        values[_MEDIA_SIDE] = "null"  # an API server drops a bare null, and its default is left
    for key, path in JOB_PATHS.items():
        if values.get(key) is not None:
            _put(spec, path, values[key])
    model = _validated(_job("evaluate", spec, "output"), source).spec.model
    devices = devices_of(
        {key.removeprefix("trainer."): value for key, value in values.items()},
        model.tensor_parallel_size,
        model.pipeline_parallel_size,
    )
    notes = tuple(
        f"{key} has no effect"  # never the value: one of the keys is a password
        for key, default in UNREAD.items()
        if key in values and values[key] not in (default, None)
    )
    return Asked(spec, str(values["output_file"]), devices, notes)


def _require_good_keys(values: Mapping[str, Any], source: str) -> None:
    problems = [unknown_key(key) for key in values if key not in KNOWN]
    problems += [
        f"{key}: missing; give {key}=PATH"
        for key in _REQUIRED
        if values.get(key) in (None, "", _MISSING)
    ]
    problems += [
        f"{key}: {why}" for key, why in REFUSED.items() if values.get(key) not in (None, False)
    ]
    if not problems and values["output_file"] == values["prompt_file"]:
        problems.append("output_file: is prompt_file, which it would replace")
    if problems:
        raise JobFileError(source, problems)


def _job(name: str, spec: dict[str, Any], output_uri: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": {**spec, "output": {"uri": output_uri}},
    }


def _validated(data: dict[str, Any], source: str) -> VideoNevaJob:
    try:
        return parse_job(data, source)
    except JobFileError as error:
        raise JobFileError(source, [in_config_words(each) for each in error.problems]) from error


def job_name(stem: str) -> str:
    """A Kubernetes name made of a file's."""
    words = re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")
    return words[:63].rstrip("-") or "evaluate"


def _put(spec: dict[str, Any], path: str, value: Any) -> None:
    *blocks, name = path.split(".")
    for block in blocks:
        spec = spec.setdefault(block, {})
    spec[name] = value


def _precision(value: object) -> str:
    try:
        return _PRECISIONS[str(value).lower()]
    except KeyError:
        raise ConfigError(f"trainer.precision is {value!r}: bf16, 16 or 32") from None
