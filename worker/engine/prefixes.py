"""Beginnings of prompts that rows share, and the slots they lie in. Pure: no tensors, no IO.

A prompt is split in two. Its prefix goes up to the end of the media: with the media on the left
all questions about a video have the same one, so it is computed once and its keys and values are
read by all of them. The rest is the row's own. Where the split is depends on the row alone, never
on whether somebody shares it.
"""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.protocol import GenerateRequest

# Own parts attend to two places at once, which costs memory for each pair of positions.
MAX_OWN_TOKENS = 256


@dataclass(frozen=True, slots=True)
class PrefixKey:
    """What a prefix's keys and values are a function of."""

    media_key: str | None
    num_media_tokens: int
    ids: tuple[int, ...]  # all of the prefix but the media; their place follows from the two below
    num_before: int

    @property
    def num_tokens(self) -> int:
        return len(self.ids) + self.num_media_tokens


def prefix_of(request: GenerateRequest, piece_tokens: int) -> PrefixKey | None:
    """The prefix of a request; None when all of a short prompt is the row's own.

    The own part has at least one token, whose logits choose the answer's first, and at most
    `piece_tokens` and MAX_OWN_TOKENS, because it is computed in one piece.
    """
    total = request.num_prompt_tokens
    num_head = 0
    if request.media is not None:
        num_head = min(len(request.before_ids) + request.num_media_tokens, total - 1)
    num_tokens = max(num_head, total - min(piece_tokens, MAX_OWN_TOKENS))
    if num_tokens <= 0:
        return None
    if request.media is None:
        ids = (*request.before_ids, *request.after_ids)[:num_tokens]
        return PrefixKey(None, 0, ids, len(ids))
    num_before = len(request.before_ids)
    num_media = min(request.num_media_tokens, num_tokens - num_before)
    ids = (*request.before_ids, *request.after_ids[: num_tokens - num_before - num_media])
    return PrefixKey(request.media.key, num_media, ids, num_before)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Prefix:
    """A prefix in a slot.

    Attributes:
        request: a request that begins with it.
        num_users: admitted and active rows that need it.
    """

    key: PrefixKey
    request: GenerateRequest
    slot: int
    num_computed: int = 0
    num_users: int = 0

    @property
    def num_tokens(self) -> int:
        return self.key.num_tokens

    @property
    def is_ready(self) -> bool:
        return self.num_computed == self.num_tokens


@dataclass(frozen=True, slots=True)
class PrefixSwap:
    """Exchange the contents of two prefix slots; carried out in their order."""

    one: int
    other: int
    num_tokens: int


class PrefixTable:
    """Which prefix lies in which slot.

    A few finished ones that nobody uses now stay, for the next question about their video; they
    leave, the longest unused first, when there are too many or their memory is needed. A decode
    step reads the slots from the first used one to the last, so `compact` keeps those near each
    other; it costs copies and is done only when half of what is read would be for nothing.
    """

    def __init__(self, max_unused: int = 8) -> None:
        self._max_unused = max_unused
        self._slots: list[Prefix | None] = []
        self._by_key: dict[PrefixKey, Prefix] = {}
        self._unused: list[Prefix] = []  # the longest unused first
        self.num_used = 0
        self.num_hits = self.num_misses = 0  # prefixes asked for that were there, or were not
        self.swaps: list[PrefixSwap] = []  # to be carried out; the engine empties it

    def __len__(self) -> int:
        """Slots up to the last one that holds something."""
        return len(self._slots)

    def find(self, key: PrefixKey) -> Prefix | None:
        return self._by_key.get(key)

    def longest(self) -> int:
        """Tokens of the longest prefix in any slot."""
        return max((p.num_tokens for p in self._slots if p is not None), default=0)

    def next_slot(self) -> int:
        """Where the next new prefix goes."""
        return self._slots.index(None) if None in self._slots else len(self._slots)

    def acquire(self, key: PrefixKey, request: GenerateRequest) -> Prefix:
        """The prefix of that key, with one more user; a new one is not computed yet."""
        prefix = self._by_key.get(key)
        if prefix is None:
            self.num_misses += 1
            prefix = Prefix(key, request, slot=self.next_slot())
            if prefix.slot == len(self._slots):
                self._slots.append(None)
            self._slots[prefix.slot] = prefix
            self._by_key[key] = prefix
            self.num_used += 1
        else:
            self.num_hits += 1
            if not prefix.num_users:
                self._unused.remove(prefix)
                self.num_used += 1
        prefix.num_users += 1
        return prefix

    def release(self, prefix: Prefix) -> None:
        """One user fewer. What nobody uses stays if it is finished."""
        prefix.num_users -= 1
        if prefix.num_users:
            return
        self.num_used -= 1
        if not prefix.is_ready:
            self._remove(prefix)
            return
        self._unused.append(prefix)
        if len(self._unused) > self._max_unused:
            self.evict_one()

    def evict_one(self) -> bool:
        """Forget the unused prefix that has been so for longest; False when all are in use."""
        if not self._unused:
            return False
        self._remove(self._unused.pop(0))
        return True

    def clear_unused(self) -> None:
        """Forget all that nobody uses."""
        while self.evict_one():
            pass

    def forget(self, prefix: Prefix) -> None:
        """Its content is wrong: nobody finds it any more, and it goes with its last user."""
        if self._by_key.get(prefix.key) is prefix:
            del self._by_key[prefix.key]
        prefix.num_computed = min(prefix.num_computed, prefix.num_tokens - 1)

    def compact(self, *, fully: bool = False) -> None:
        """Bring the used ones to the front, by swaps, if they are far apart or if told to."""
        used = [p for p in self._slots if p is not None and p.num_users]
        if not used or (not fully and used[-1].slot + 1 <= 2 * len(used)):
            return
        is_free = [p is None or not p.num_users for p in self._slots]
        for prefix in reversed(used):
            target = is_free.index(True) if True in is_free else len(self._slots)
            if target >= prefix.slot:
                break
            is_free[target], is_free[prefix.slot] = False, True
            self._swap(prefix, target)
        self._trim()

    def _swap(self, prefix: Prefix, target: int) -> None:
        source, other = prefix.slot, self._slots[target]
        if not prefix.num_computed and other is not None:
            # Nothing to copy, and the source may be a slot that no memory stands behind yet.
            self._unused.remove(other)
            self._remove(other)
            other = None
        if prefix.num_computed:
            num_tokens = max(prefix.num_computed, other.num_computed if other is not None else 0)
            self.swaps.append(PrefixSwap(source, target, num_tokens))
        self._slots[target], self._slots[source] = prefix, other
        prefix.slot = target
        if other is not None:
            other.slot = source

    def _remove(self, prefix: Prefix) -> None:
        self._slots[prefix.slot] = None
        if self._by_key.get(prefix.key) is prefix:
            del self._by_key[prefix.key]
        self._trim()

    def _trim(self) -> None:
        while self._slots and self._slots[-1] is None:
            self._slots.pop()
