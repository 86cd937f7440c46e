"""The judge's replies on disk, so that nothing is paid for twice.

Key: the review's content digest (`plan.review_digest`).
Layout: `judge/parts/NNNN.jsonl` under the output, one or more replies a line each, each part
written once with If-None-Match. A reply is written as it comes (`judge.asking`).
Recovery: read all parts in order. Parts hold the judge's raw words and no scores: a better parser
needs no new reviews. A digest may come again, if it was asked again because of what the judge said.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields

import orjson
import structlog

from judge.completion import Reply
from neva.store.base import AlreadyExists, Store

PARTS = "judge/parts/"
_READERS = 16
_FIELDS = tuple(item.name for item in fields(Reply))

log = structlog.get_logger(__name__)


class ReplyLog:
    """Replies of earlier runs, and the parts of this one. `flush` may run in a thread beside
    `add`, one flush at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: list[tuple[str, Reply]] = []
        self._next_part = 1

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def load(self) -> Iterator[tuple[str, Reply]]:
        """Yield digest and reply of every reply that earlier runs wrote, oldest part first."""
        parts: list[tuple[int, str]] = []
        for info in list(self._store.list(PARTS)):
            number = info.key.removeprefix(PARTS).removesuffix(".jsonl")
            if not number.isdecimal():
                log.warning("judge_part_ignored", key=info.key, why="no part of ours")
                continue
            parts.append((int(number), info.key))
        parts.sort()
        if parts:
            self._next_part = parts[-1][0] + 1
        with ThreadPoolExecutor(_READERS) as readers:
            contents = readers.map(self._store.get, [key for _, key in parts])
            for (_, key), content in zip(parts, contents, strict=True):
                for line in content.splitlines():
                    entry = _entry(line)
                    if entry is None:
                        log.warning("judge_reply_ignored", key=key, why="unreadable line")
                    else:
                        yield entry

    def add(self, digest: str, reply: Reply) -> None:
        self._waiting.append((digest, reply))

    def flush(self) -> None:
        """Write what was added since the last flush as one part."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        data = b"".join(
            orjson.dumps({"digest": digest, **asdict(reply)}) + b"\n" for digest, reply in waiting
        )
        while True:
            key = f"{PARTS}{self._next_part:04}.jsonl"
            self._next_part += 1
            try:
                self._store.put(key, data, if_absent=True)
            except AlreadyExists:
                continue  # another run of the same job took the number
            return


def _entry(line: bytes) -> tuple[str, Reply] | None:
    try:
        record = orjson.loads(line)
        return str(record["digest"]), Reply(**{name: record[name] for name in _FIELDS})
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
