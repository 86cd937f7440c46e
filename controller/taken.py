"""Shards whose messages workers have taken and do not work on: so far, or because they are dead.

A lease alone would not tell: who is killed before it has one, or is stopped while the controller is
down, was never seen at work. kombu gives its message back after half a minute.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from neva.queue import TakenMessages

_SENT_AGAIN = float("inf")


class TakenShards:
    """What the broker says of taken messages, and how long each has had no lease."""

    def __init__(self, messages: TakenMessages) -> None:
        self._messages = messages
        self._taken: Mapping[bytes, int] = {}  # shard by delivery tag
        self._idle_since_s: dict[bytes, float] = {}  # by delivery tag

    def look(self) -> Collection[int]:
        """Ask the broker again; the shards."""
        self._taken = self._messages.look()
        return self._taken.values()

    def idle_since_s(
        self, now_s: float, open_shards: Collection[int], leased: Collection[int]
    ) -> dict[int, float]:
        """Since when each open shard among them has been without a lease, as far as was seen.

        Of a shard's several messages the longest counts, of those `sent_again` knows none.
        """
        self._idle_since_s = {
            tag: self._idle_since_s.get(tag, now_s)
            for tag, shard in self._taken.items()
            if shard in open_shards and shard not in leased
        }
        idle: dict[int, float] = {}
        for tag, since_s in self._idle_since_s.items():
            shard = self._taken[tag]
            if since_s != _SENT_AGAIN:
                idle[shard] = min(since_s, idle.get(shard, since_s))
        return idle

    def sent_again(self, shard: int) -> None:
        """The shard has another message; these need no second one."""
        idle = [tag for tag in self._idle_since_s if self._taken[tag] == shard]
        self._idle_since_s.update(dict.fromkeys(idle, _SENT_AGAIN))
