"""Which retry comes next: one that was begun, or a new one of what is still failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from controller.manifest import read_manifest
from controller.retry.base import BaseRun
from controller.summary import is_finished
from neva.errors import ConfigError
from neva.job_file import parse_job
from neva.ledger import Ledger, layout
from neva.ledger.control import Control, Order
from neva.spec import VideoNevaJob
from neva.store import AlreadyExists, Store, open_store, put_if_absent_or_same

_MAX_NAME_LENGTH = 63
_MAX_GENERATIONS = 10_000
# What a cluster wrote into a job's metadata is not the retry's.
_METADATA = ("namespace", "labels")


@dataclass(frozen=True, slots=True)
class NextRetry:
    """A retry to run.

    Attributes:
        number: of those of the first run.
        job: as a job file.
        begun: it is there already, unfinished.
        num_failed: rows that are still failed, which it asks; 0: nothing is left to retry.
    """

    number: int
    job: VideoNevaJob
    begun: bool
    num_failed: int


def next_retry(uri: str, settings_of: VideoNevaJob | None = None) -> NextRetry:
    """Look what is there. Nothing is written.

    Args:
        uri: output.uri of a run, or of one of its retries.
        settings_of: a job whose workers, failure, judge and the like hold for the retry.

    Raises:
        ConfigError: there is no finished run.
    """
    first = _first_run(uri)
    numbers = _numbers(first)
    base = BaseRun.open(first.base_uri)
    for number in reversed(numbers):
        job = _read_job(first, number)
        store = open_store(job.spec.output.uri)
        if is_finished(store, job):
            base = BaseRun.open(store.base_uri)
            break
        if Control(store).look().order is not Order.CANCEL:
            return NextRetry(number, job, True, BaseRun.open(job.spec.retry_of or "").num_failed)
    number = max(numbers, default=0) + 1
    job = _make_job(first, base, number, settings_of)
    return NextRetry(number, job, False, base.num_failed)


def begin(uri: str, retry: NextRetry) -> VideoNevaJob:
    """Take the retry's number. Returns its job: another process's if that was first."""
    first = _first_run(uri)
    data = orjson.dumps(retry.job.model_dump(mode="json", by_alias=True))
    try:
        put_if_absent_or_same(first, layout.retry_job(retry.number), data)
    except AlreadyExists:
        return _read_job(first, retry.number)
    return retry.job


def _first_run(uri: str) -> Store:
    """The run that is no retry, from which `uri` comes."""
    for _ in range(_MAX_GENERATIONS):
        store = open_store(uri)
        manifest = read_manifest(Ledger(store))
        if manifest is None:
            raise ConfigError(f"{store.uri_of(layout.MANIFEST)} does not exist: no run there")
        before = manifest.job["spec"].get("retryOf")
        if before is None:
            return store
        uri = before
    raise ConfigError(f"{uri}: its retries name each other in a circle")


def _numbers(first: Store) -> list[int]:
    numbers = (layout.retry_number(item.key) for item in first.list(layout.RETRIES))
    return sorted(number for number in numbers if number is not None)


def _read_job(first: Store, number: int) -> VideoNevaJob:
    key = layout.retry_job(number)
    return parse_job(orjson.loads(first.get(key)), first.uri_of(key))


def _make_job(
    first: Store, base: BaseRun, number: int, settings_of: VideoNevaJob | None
) -> VideoNevaJob:
    data: dict[str, Any] = orjson.loads(orjson.dumps(base.manifest.job))
    if settings_of is not None:
        data = settings_of.model_dump(mode="json", by_alias=True)
    first_name = read_manifest(Ledger(first))
    name = first_name.job["metadata"]["name"] if first_name else "run"
    ending = f"-retry-{number}"
    metadata = {key: data["metadata"][key] for key in _METADATA if key in data["metadata"]}
    data["metadata"] = {"name": name[: _MAX_NAME_LENGTH - len(ending)] + ending, **metadata}
    data["spec"] = {
        **data["spec"],
        "retryOf": base.ledger.store.base_uri,
        "output": {"uri": f"{first.base_uri}{layout.retry(number)}"},
        "suspend": False,
    }
    return parse_job(data, f"the retry of {first.base_uri}")
