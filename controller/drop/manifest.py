"""A drop and the folder's template → the job. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from controller.drop.scan import Drop
from neva.job_file import parse_job
from neva.spec import API_VERSION, KIND

GROUP = "neva-batch.dev"
LABEL_FOLDER = f"{GROUP}/drop-folder"
ANNOTATION_KEY = f"{GROUP}/drop-key"
ANNOTATION_ETAG = f"{GROUP}/drop-etag"
ANNOTATION_MARKER = f"{GROUP}/drop-marker"
ANNOTATION_MARKER_ETAG = f"{GROUP}/drop-marker-etag"
ANNOTATION_TAKEN_CARE_OF = f"{GROUP}/drop-done"


def job_of(
    drop: Drop, folder_label: str, namespace: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
    """The job of a drop, as JSON.

    Args:
        spec: the DropFolder's, as written.

    Raises:
        JobFileError: the template makes no valid job.
    """
    template = copy.deepcopy(dict(spec["template"]))
    metadata = template.get("metadata") or {}
    annotations = {ANNOTATION_KEY: drop.key, ANNOTATION_ETAG: drop.etag}
    if drop.marker is not None:
        annotations[ANNOTATION_MARKER], annotations[ANNOTATION_MARKER_ETAG] = drop.marker
    job_spec = dict(template["spec"])
    given = {**(job_spec.get("input") or {}), "prompts": spec["uri"] + drop.key}
    inference = dict(job_spec.get("inference") or {})
    if drop.folder is not None:
        given["mediaBasePath"] = spec["uri"] + drop.folder
        inference.pop("media_base_path", None)
    elif not given.get("mediaBasePath") and not inference.get("media_base_path"):
        given["mediaBasePath"] = spec["uri"]
    job_spec["input"] = {key: value for key, value in given.items() if value is not None}
    if "inference" in job_spec:
        job_spec["inference"] = inference
    job_spec["output"] = {"uri": f"{spec['outputBase']}{drop.name}/"}
    body = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": drop.name,
            "namespace": namespace,
            "labels": {**(metadata.get("labels") or {}), LABEL_FOLDER: folder_label},
            "annotations": {**(metadata.get("annotations") or {}), **annotations},
        },
        "spec": job_spec,
    }
    parse_job(body, drop.name)
    return body


def drop_of(job: Mapping[str, Any]) -> Drop | None:
    """The drop that a job was made of, as far as its inputs are concerned."""
    annotations = job["metadata"].get("annotations") or {}
    if ANNOTATION_KEY not in annotations or ANNOTATION_ETAG not in annotations:
        return None
    marker = None
    if ANNOTATION_MARKER in annotations and ANNOTATION_MARKER_ETAG in annotations:
        marker = (annotations[ANNOTATION_MARKER], annotations[ANNOTATION_MARKER_ETAG])
    return Drop(
        name=job["metadata"]["name"],
        key=annotations[ANNOTATION_KEY],
        etag=annotations[ANNOTATION_ETAG],
        marker=marker,
        version="",
        modified_s=0.0,
        age_s=None,
    )
