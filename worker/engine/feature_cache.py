"""Media embeddings kept for the next rows about the same video."""

from __future__ import annotations

from collections import OrderedDict

import torch


class FeatureCache:
    """Least recently used features by media key.

    The unit is the embedding (one token's vector). At most `max_embeddings` stay after each
    `put`, whole videos at a time; a video larger than that is not kept at all. What a caller got
    from the cache stays valid for it: eviction only drops the cache's own reference.
    """

    def __init__(self, max_embeddings: int) -> None:
        self._max_embeddings = max_embeddings
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.num_embeddings = 0
        self.num_hits = self.num_misses = 0

    def get(self, key: str) -> torch.Tensor | None:
        """Features (embeddings, hidden) stored under a key, which becomes the most recent."""
        if key not in self._features:
            self.num_misses += 1
            return None
        self.num_hits += 1
        self._features.move_to_end(key)
        return self._features[key]

    def put(self, key: str, features: torch.Tensor) -> None:
        """Store features (embeddings, hidden) of a key that is not in the cache."""
        if features.size(0) > self._max_embeddings:
            return  # storing it would only evict all others
        self._features[key] = features
        self.num_embeddings += features.size(0)
        while self.num_embeddings > self._max_embeddings:
            _, evicted = self._features.popitem(last=False)
            self.num_embeddings -= evicted.size(0)

    def clear(self) -> None:
        """Forget all."""
        self._features.clear()
        self.num_embeddings = 0
