"""What is sent to a cluster: a job as its author wrote it, without what the server sets, and
without nulls, which the server would take for defaults. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.evaluate.keys import in_config_words
from controller.evaluate.to_job import Asked, job_name
from neva.job_file import JobFileError, job_data, local_paths, parse_job, without_nulls

_METADATA = ("name", "namespace", "labels", "annotations")
_OUTPUTS = "outputs.jsonl"


def body_of(
    data: dict[str, Any], source: str, words: Callable[[str], str] = lambda words: words
) -> dict[str, Any]:
    """The object to apply.

    Args:
        data: the job.
        words: translates a complaint about the job into its author's words.

    Raises:
        JobFileError: the job is wrong, or names files that only this machine can read.
    """
    try:
        parse_job(data, source)
    except JobFileError as error:
        raise JobFileError(source, [words(problem) for problem in error.problems]) from error
    if local := local_paths(data):
        raise JobFileError(source, [words(_local_words(path, uri)) for path, uri in local])
    metadata = {key: data["metadata"][key] for key in _METADATA if key in data["metadata"]}
    kept = {key: data[key] for key in ("apiVersion", "kind")}
    return {**kept, "metadata": metadata, "spec": without_nulls(data["spec"])}


def body_of_config(asked: Asked, name: str | None, source: str) -> dict[str, Any]:
    """The object of a neva_inference.yaml's job.

    Args:
        name: the job's; None takes it from `output_file`.

    Raises:
        JobFileError: see `body_of`.
    """
    folder = output_folder(asked.output_file)
    data = asked.job(
        name or job_name(folder.rstrip("/").rpartition("/")[2]),
        folder,
        on_cpu=asked.devices.accelerator == "cpu",
    )
    return job_data(parse_job(body_of(data, source, in_config_words), source))


def output_folder(output_file: str) -> str:
    """Where a cluster's run writes: a folder, for which a file stands by its name."""
    folder, slash, file = output_file.rpartition("/")
    if file in ("", _OUTPUTS):
        return f"{folder}{slash}"
    return f"{folder}{slash}{file.rpartition('.')[0] or file}/"


def _local_words(path: str, uri: str) -> str:
    return (
        f"{path}: {uri} is on this machine, where no pod can read it; upload it and give "
        "s3://bucket/key, or file:///path on a volume that all pods mount"
    )
