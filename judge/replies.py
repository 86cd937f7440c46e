"""The judge's replies on disk, so that nothing is paid for twice.

Key: the review's content digest (`plan.review_digest`).
Layout: `judge/parts/NNNN.jsonl` under the output, one reply a line, each part written once with
If-None-Match. A part is flushed every few replies, so a killed run loses those of one flush at
most. Recovery: read all parts in order. Parts hold the
judge's raw words and no scores: a better parser needs no new reviews. A digest may come again, if
it was asked again because of what the judge said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields

import orjson
import structlog

from judge.client import Reply
from neva.store.base import AlreadyExists, Store

PARTS = "judge/parts/"
_FIELDS = tuple(item.name for item in fields(Reply))

log = structlog.get_logger(__name__)


class ReplyLog:
    """Replies of earlier runs, and the parts of this one. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[str, Reply] = {}
        self._next_part = 1

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def load(self) -> Iterator[tuple[str, Reply]]:
        """Yield digest and reply of every reply that earlier runs wrote, oldest part first."""
        for info in list(self._store.list(PARTS)):
            number = info.key.removeprefix(PARTS).removesuffix(".jsonl")
            if not number.isdecimal():
                log.warning("judge_part_ignored", key=info.key, why="no part of ours")
                continue
            self._next_part = max(self._next_part, int(number) + 1)
            for line in self._store.get(info.key).splitlines():
                entry = _entry(line)
                if entry is None:
                    log.warning("judge_reply_ignored", key=info.key, why="unreadable line")
                else:
                    yield entry

    def add(self, digest: str, reply: Reply) -> None:
        self._waiting[digest] = reply

    def flush(self) -> None:
        """Write what was added since the last flush as one part."""
        if not self._waiting:
            return
        data = b"".join(
            orjson.dumps({"digest": digest, **asdict(reply)}) + b"\n"
            for digest, reply in self._waiting.items()
        )
        while True:
            key = f"{PARTS}{self._next_part:04}.jsonl"
            self._next_part += 1
            try:
                self._store.put(key, data, if_absent=True)
            except AlreadyExists:
                continue  # another run of the same job took the number
            self._waiting.clear()
            return


def _entry(line: bytes) -> tuple[str, Reply] | None:
    try:
        record = orjson.loads(line)
        return str(record["digest"]), Reply(**{name: record[name] for name in _FIELDS})
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
