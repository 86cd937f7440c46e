"""Finds many keys by listing what there is, where asking for each would take minutes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice, takewhile

from neva.store.base import Store

# A prefix with many times more objects than are asked for is not worth its listing.
_MAX_LISTED_PER_KEY = 20


def present_by_listing(store: Store, keys: Sequence[str]) -> list[bool]:
    """`Store.present` by one walk through the listing of all keys' common prefix."""
    wanted = dict.fromkeys(keys, False)
    first, last = min(wanted), max(wanted)
    same = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    prefix = "".join(character for character, _ in same)
    for item in islice(store.list(prefix), _MAX_LISTED_PER_KEY * len(wanted)):
        if item.key in wanted:
            wanted[item.key] = True
        elif item.key > last:
            break
    return [wanted[key] for key in keys]
