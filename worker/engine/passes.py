"""One forward pass: segments of several kinds go through every matrix together.

Reading the weights costs as much for one token as for hundreds. So the pieces of prefixes, the
rows' own parts behind them and the rows that decode share a pass; only attention looks at each
segment alone, in that order, so that what a layer stores for a prefix is there for its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from worker.engine.attention import PrefixContext, RowContext
from worker.engine.layers import LayerContext
from worker.engine.megatron_api import SelfAttention
from worker.engine.projection import project
from worker.engine.row_batch import RowBatch


@dataclass(frozen=True, slots=True)
class PrefixWork:
    """The next positions of some prefixes, all at the same places from `start` on.

    Attributes:
        embeddings: (prefixes, tokens, hidden), padded.
        slots: of the prefixes; reserved.
    """

    embeddings: torch.Tensor
    slots: Sequence[int]
    start: int


@dataclass(frozen=True, slots=True)
class RowWork:
    """Rows whose next positions are computed, and of which the next token is wanted.

    Attributes:
        embeddings: (rows, tokens, hidden), padded.
        last_places: where each row's last token is.
    """

    embeddings: torch.Tensor
    batch: RowBatch
    last_places: Sequence[int]


@dataclass(frozen=True, slots=True)
class PrefixSegment:
    """sums: (prefixes,) float32; the last layer's keys and values are added: finite if they are."""

    embeddings: torch.Tensor
    context: PrefixContext
    sums: torch.Tensor


@dataclass(frozen=True, slots=True)
class RowSegment:
    embeddings: torch.Tensor
    context: RowContext
    last_places: Sequence[int]


class PassContext:
    """The tokens of a pass one after the other, segment by segment, prefixes' before rows'.

    Behind the model's last layer only each row's last token is of use; of all others that layer's
    keys and values are, so it computes no more of them.
    """

    def __init__(
        self,
        segments: Sequence[PrefixSegment | RowSegment],
        last_layer: int | None,
        device: torch.device,
    ) -> None:
        """last_layer: index of the model's last one, None where another stage has it."""
        self._segments = segments
        self._last_layer = last_layer
        self._num_tokens = [s.embeddings.size(0) * s.embeddings.size(1) for s in segments]
        self._num_prefix_tokens = sum(
            n
            for n, s in zip(self._num_tokens, segments, strict=True)
            if isinstance(s, PrefixSegment)
        )
        places: list[int] = []
        start = 0
        for segment in segments:
            if isinstance(segment, RowSegment):
                width = segment.embeddings.size(1)
                places += [start + i * width + n for i, n in enumerate(segment.last_places)]
                start += len(segment.last_places) * width
        self.num_wanted = len(places)
        # Among the rows' tokens; None: all of them.
        self._wanted: torch.Tensor | None = None
        if self.num_wanted < start:
            self._wanted = torch.tensor(places, device=device)

    @property
    def num_tokens(self) -> int:
        return sum(self._num_tokens)

    def hidden(self) -> torch.Tensor:
        """The pass's input, as megatron shapes it: (tokens, 1, hidden). A copy."""
        return torch.cat([s.embeddings.flatten(0, 1) for s in self._segments])[:, None]

    def kept(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Of a layer's input (tokens, 1, hidden) what goes on beside its attention's output."""
        if layer != self._last_layer:
            return hidden
        return self._only_wanted(hidden[self._num_prefix_tokens :])

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query: (tokens, heads, dim); key, value: (tokens, kv_heads, dim), unrotated.

        Returns (tokens that `kept` keeps, heads × dim).
        """
        attended = []
        start = 0
        for segment, num_tokens in zip(self._segments, self._num_tokens, strict=True):
            rows = segment.embeddings.size(0)
            q, k, v = (
                t[start : start + num_tokens].view(rows, -1, *t.shape[1:]).transpose(1, 2)
                for t in (query, key, value)
            )
            start += num_tokens
            if layer == self._last_layer and isinstance(segment, PrefixSegment):
                segment.context.store(layer, k, v)
                for states in (k, v):
                    segment.sums.add_(states.sum(dim=(1, 2, 3), dtype=torch.float32))
                continue
            out = segment.context.attend(layer, q, k, v)
            attended.append(out.transpose(1, 2).reshape(num_tokens, -1))
        if not attended:
            return query.new_empty((0, query.size(1) * query.size(2)))
        joined = attended[0] if len(attended) == 1 else torch.cat(attended)
        return self._only_wanted(joined) if layer == self._last_layer else joined

    def _only_wanted(self, of_rows: torch.Tensor) -> torch.Tensor:
        """of_rows: (the rows' tokens, …)"""
        return of_rows if self._wanted is None else of_rows[self._wanted]


class CachedSelfAttention(SelfAttention):  # type: ignore[misc]
    """megatron's qkv and output projections around a pass's attention."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None,
        inference_context: LayerContext,
        **_: Any,  # what else a layer can hand down (rotary tensors, packing) is not used here
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """hidden_states: (tokens, 1, hidden). Returns as many tokens as the context keeps."""
        mixed = project(self.linear_qkv, hidden_states)[0]
        dim = self.hidden_size_per_attention_head
        # For each kv head its queries, its key, its value.
        mixed = mixed.view(mixed.size(0), self.num_query_groups_per_partition, -1, dim)
        query = mixed[:, :, :-2].reshape(mixed.size(0), -1, dim)
        attended = inference_context.attend(
            self.layer_number - 1, query, mixed[:, :, -2], mixed[:, :, -1]
        )
        if not attended.size(0):
            return hidden_states[:0], None
        return project(self.linear_proj, attended[:, None])
