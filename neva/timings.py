"""Where the workers' time went: seconds by stage, one small file per process that answers rows.

Beside the ledger and no part of it: nothing depends on it, and a process that is killed takes the
seconds of its running shard along.
"""

from __future__ import annotations

from typing import Final

import orjson
import structlog
from pydantic import TypeAdapter

from neva.ledger import layout
from neva.stages import DECODE, DOWNLOAD, ENGINE, PREPROCESS, WAIT_FOR_ENGINE, WAIT_FOR_MEDIA
from neva.store.base import Store

log = structlog.get_logger()

_SECONDS: Final = TypeAdapter(dict[str, float])
_WORDS: Final = (
    (ENGINE, "engine"),
    (WAIT_FOR_ENGINE, "waiting for the engine"),
    (WAIT_FOR_MEDIA, "waiting for media"),
)
_AHEAD: Final = ((DOWNLOAD, "download"), (DECODE, "decoding"), (PREPROCESS, "preprocessing"))


def write_timings(store: Store, process: str, seconds: dict[str, float]) -> None:
    """Put what one process has used since its start; replaces what it put before.

    Args:
        process: unique among all that ever worked on the run.
    """
    data = {name: round(value, 3) for name, value in sorted(seconds.items())}
    store.put(f"{layout.TIMINGS}{process}.json", orjson.dumps(data))


def read_timings(store: Store) -> dict[str, float]:
    """Seconds by stage, of all processes of the run together; {} where none is known."""
    total: dict[str, float] = {}
    for item in store.list(layout.TIMINGS):
        data = store.get_or_none(item.key)
        if data is None:
            continue
        try:
            seconds = _SECONDS.validate_json(data)
        except ValueError:  # somebody else's file: nothing depends on it
            log.warning("no timings", file=item.key)
            continue
        for name, value in seconds.items():
            total[name] = total.get(name, 0.0) + value
    return {name: round(value, 1) for name, value in sorted(total.items())}


def timings_words(seconds: dict[str, float]) -> str | None:
    """One line for a person; None when nothing is known."""
    total = sum(seconds.get(name, 0.0) for name, _ in _WORDS)
    if not total:
        return None
    shares = [f"{words} {seconds.get(name, 0.0) / total:.0%}" for name, words in _WORDS]
    ahead = [f"{words} {seconds.get(name, 0.0):.1f} s" for name, words in _AHEAD]
    return f"Where the time went: {', '.join(shares)}; beside it {', '.join(ahead)}"
