"""The object store: the output can be written and decides races, the input is there."""

from __future__ import annotations

from collections.abc import Iterator

from controller.start import require_files
from neva.findings import Finding, errors_as_findings, ok, problem, skipped
from neva.media_store import is_tar
from neva.spec import JobSpec, VideoNevaJob
from neva.store import open_object, open_store, probe_conditional_put

_MEDIA_ADVICE = "correct input.mediaBasePath, or put the media there"


def examine(job: VideoNevaJob | None) -> Iterator[Finding]:
    """Writes small objects under the output, and deletes them."""
    if job is None:
        yield skipped("store", "no job file names one")
        return
    found: list[Finding] = []
    with errors_as_findings("output", found):
        store = open_store(job.spec.output.uri)
        probe_conditional_put(store)
        found.append(ok("output", f"{store.base_uri} takes files, and one of many at once wins"))
    with errors_as_findings("prompts", found):
        require_files(job.spec)
        found.append(ok("prompts", f"{job.spec.input.prompts} is there, and what else is named"))
    with errors_as_findings("media", found):
        found.append(_media(job.spec))
    yield from found


def _media(spec: JobSpec) -> Finding:
    base = spec.media_base_path
    if not base:
        return skipped("media", "each prompt names its own place")
    if is_tar(base):
        store, key = open_object(base)
        info = store.head(key)
        if info is None:
            return problem("media", f"{base} does not exist", _MEDIA_ADVICE)
        return ok("media", f"{base}, {info.size_bytes} bytes")
    if next(iter(open_store(base).list()), None) is None:
        return problem("media", f"{base}: nothing is there", _MEDIA_ADVICE)
    return ok("media", f"{base} can be listed")
