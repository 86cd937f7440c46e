"""The chart through Helm's own engine, as plain objects."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart, Config

REPOSITORY = Path(__file__).parents[2]
CHART_FOLDER = REPOSITORY / "charts" / "neva-batch"
EXAMPLES = REPOSITORY / "conf" / "examples"
Manifest = dict[str, Any]


@functools.cache
def chart() -> Chart:
    return Chart.load(CHART_FOLDER)


def render(
    values: dict[str, Any] | None = None,
    name: str = "neva",
    namespace: str = "neva",
    *,
    is_upgrade: bool = True,
    cluster: Config | None = None,
) -> list[Manifest]:
    """All objects of a release; an upgrade by default, which leaves out nothing.

    Args:
        cluster: what the function `lookup` asks; nothing is found without.
    """
    options: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "is_upgrade": is_upgrade,
        "is_install": not is_upgrade,
        "revision": 2 if is_upgrade else 1,
    }
    if cluster is None:
        files = chart().render(values or {}, **options)
    else:
        files = cluster.render(chart(), values or {}, **options)
    return [
        manifest
        for path, text in sorted(files.items())
        if path.endswith(".yaml")
        for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if manifest is not None
    ]


def notes(values: dict[str, Any] | None = None, *, is_upgrade: bool = True) -> str:
    files = chart().render(
        values or {}, name="neva", namespace="neva", is_upgrade=is_upgrade, revision=1
    )
    return files["neva-batch/templates/NOTES.txt"]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: list[Manifest], kind: str, name_end: str = "") -> Manifest:
    """The one object of the kind whose name ends so."""
    found = [m for m in of_kind(manifests, kind) if m["metadata"]["name"].endswith(name_end)]
    assert len(found) == 1, [m["metadata"]["name"] for m in found]
    return found[0]


def identity(manifest: Manifest) -> tuple[str, str | None, str]:
    """(kind, namespace, name): what is unique in a cluster."""
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace"), metadata["name"]


def pod_templates(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """(what it belongs to, {metadata, spec}) of every pod that the objects lead to."""
    for manifest in manifests:
        where = f"{manifest['kind']}/{manifest['metadata']['name']}"
        match manifest["kind"]:
            case "Pod":
                yield where, manifest
            case "Deployment" | "StatefulSet" | "DaemonSet" | "Job" | "ReplicaSet":
                yield where, manifest["spec"]["template"]
            case "CronJob":
                yield where, manifest["spec"]["jobTemplate"]["spec"]["template"]
