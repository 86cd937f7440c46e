"""What happens to a drop's files when its job has ended, and what is left beside a bad one.

Every step can be repeated: a controller that dies in the middle does all of it again.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from controller.drop.bucket import Bucket, Fate
from controller.drop.manifest import GROUP
from controller.drop.scan import JSONL, Drop, Listed
from neva.ledger import layout
from neva.store import NotFound, Store, open_store

TAG = f"{GROUP}/job"
RECORD = "drop.json"
MAX_ERRORS = 1000
_THREADS = 8
_READ_BYTES = 64 << 20


def leave_record(outputs: Store, drop: Drop, source_uri: str) -> None:
    """Say below the job's outputs what it was made of; it also keeps the name from being used
    again when the job is deleted."""
    record = {"job": drop.name, "input": source_uri, "etag": drop.etag}
    outputs.put(RECORD, orjson.dumps(record, option=orjson.OPT_INDENT_2))


def take_away(bucket: Bucket, drop: Drop, action: str, prefix: str) -> dict[Fate, int]:
    """Move or tag the files of a drop whose job succeeded.

    A changed drop is left alone: it is another one. The prompts file and the marker go last, so
    that an interrupted move can be found and finished.

    Returns:
        How many files met which fate.
    """
    if action == "keep":
        return {}
    files = list(_files(bucket, drop))
    leading = {drop.key, drop.marker[0] if drop.marker else drop.key}
    current = {listed.key: listed.etag for listed in files}
    expected = {drop.key: drop.etag, **dict([drop.marker] if drop.marker else [])}
    for key, etag in expected.items():
        if key in current and current[key] != etag:
            return {Fate.CHANGED: 1}
    base = drop.folder or ""

    def act(listed: Listed) -> Fate:
        if action == "tag":
            return bucket.tag(listed, TAG, drop.name)
        return bucket.move(listed, f"{prefix}{drop.name}/{listed.key.removeprefix(base)}")

    fates: dict[Fate, int] = {}
    others = [listed for listed in files if listed.key not in leading]
    last = sorted((x for x in files if x.key in leading), key=lambda x: x.key != drop.key)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="drop") as pool:
        for fate in pool.map(act, others):
            fates[fate] = fates.get(fate, 0) + 1
    for listed in last:
        fate = act(listed)
        fates[fate] = fates.get(fate, 0) + 1
    return fates


def _files(bucket: Bucket, drop: Drop) -> Iterator[Listed]:
    if drop.folder is not None:
        yield from bucket.list(drop.folder)
        return
    for listed in bucket.list(drop.key):
        if listed.key == drop.key:
            yield listed


def errors_key(drop: Drop, moved_to: str | None) -> str:
    """Where the errors of a drop are told: beside its prompts file, wherever that is now."""
    stem = f"{drop.key.removesuffix(JSONL)}.errors.json"
    if moved_to is None:
        return stem
    return f"{moved_to}{drop.name}/{stem.removeprefix(drop.folder or '')}"


def tell_errors(
    watched: Store, outputs: Store, drop: Drop, key: str, reason: str, message: str
) -> bool:
    """Write what was wrong with a drop; whether there was anything."""
    errors, more = _first_errors(outputs)
    if not errors and not reason:
        return False
    told: dict[str, Any] = {
        "job": drop.name,
        "input": watched.uri_of(drop.key),
        "etag": drop.etag,
        "reason": reason,
        "message": message,
        "errors": errors,
    }
    if more:
        told["more"] = f"the rest is in {outputs.uri_of(layout.ERRORS)}"
    watched.put(key, orjson.dumps(told, option=orjson.OPT_INDENT_2))
    return True


def _first_errors(outputs: Store) -> tuple[list[dict[str, Any]], bool]:
    """The first errors of a job: line, reason, message; and whether there are more."""
    found: list[dict[str, Any]] = []
    try:
        with outputs.open_read(layout.ERRORS, num_bytes=_READ_BYTES) as stream:
            for line in stream:
                if len(found) == MAX_ERRORS or not line.endswith(b"\n"):
                    return found, True
                error = orjson.loads(line)
                found.append({name: error.get(name) for name in ("line", "reason", "message")})
    except NotFound:
        return [], False
    return found, False


def outputs_of(output_base: str, drop: Drop) -> Store:
    """Where a drop's job writes."""
    return open_store(f"{output_base}{drop.name}/")
