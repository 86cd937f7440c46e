"""Attention of rows to the prefixes that they share, together with their own tokens."""

from __future__ import annotations

import torch

from worker.engine.kv_cache import SlotPool, slots_of
from worker.engine.row_batch import RowBatch


class SharedPrefixes:
    """Lays a batch's rows out by prefix: `prefixes` × `places` cells, each with one row.

    Every prefix gets as many cells as the most popular one has rows; the cells left over repeat
    some row and are not read. Rows without a prefix stand beside those of another one, with all of
    it masked.
    """

    def __init__(
        self,
        pool: SlotPool,
        slots: slice | torch.Tensor,
        rows_of_cells: torch.Tensor | None,
        cells_of_rows: torch.Tensor | None,
        shape: tuple[int, int],
        num_tokens: int,
        mask: torch.Tensor | None,
    ) -> None:
        """
        rows_of_cells: (prefixes × places,), and its inverse (rows,); None where they are the same.
        mask: (prefixes, 1, places, 1, num_tokens), True = attend.
        """
        self._pool = pool
        self._slots = slots
        self._rows_of_cells = rows_of_cells
        self._cells_of_rows = cells_of_rows
        self._num_prefixes, self._num_places = shape
        self._num_tokens = num_tokens
        self._mask = mask

    @classmethod
    def of(cls, batch: RowBatch, pool: SlotPool, device: torch.device) -> SharedPrefixes | None:
        """The layout of a batch; None when no row has a prefix."""
        used = sorted({slot for slot in batch.prefix_slots if slot >= 0})
        if not used:
            return None
        # A few slots between that nobody wants now are cheaper to read than to copy round.
        if used[-1] + 1 - used[0] <= 2 * len(used):
            used = list(range(used[0], used[-1] + 1))
        rows_at: dict[int, list[int]] = {slot: [] for slot in used}
        for row, slot in enumerate(batch.prefix_slots):
            rows_at[slot if slot >= 0 else used[0]].append(row)
        num_places = max(len(rows) for rows in rows_at.values())
        cells: list[int] = []
        cell_of = [0] * len(batch.prefix_slots)
        for rows in rows_at.values():
            for row in rows:
                cell_of[row] = len(cells)
                cells.append(row)
            cells += [0] * (num_places - len(rows))
        is_plain = cells == list(range(len(batch.prefix_slots)))
        num_tokens = max(batch.prefix_lengths)
        mask = None
        if min(batch.prefix_lengths) != num_tokens:
            lengths = torch.tensor(batch.prefix_lengths, device=device)[cells]
            # Cells left over and slots in between repeat row 0, which may be a short one.
            mask = torch.arange(num_tokens, device=device) < lengths[:, None]
            mask = mask.view(len(used), 1, num_places, 1, num_tokens)
        return cls(
            pool,
            slots_of(used, device),
            None if is_plain else torch.tensor(cells, device=device),
            None if is_plain else torch.tensor(cell_of, device=device),
            (len(used), num_places),
            num_tokens,
            mask,
        )

    def attend(
        self, layer: int, query: torch.Tensor, own_scores: torch.Tensor, own_values: torch.Tensor
    ) -> torch.Tensor:
        """One softmax over prefix and own tokens.

        query: (rows, kv_heads, queries, dim), scaled; own_scores: (rows, kv_heads, queries, own),
        masked; own_values: (rows, kv_heads, own, dim). Returns (rows, kv_heads, queries, dim).
        """
        keys, values = self._pool.read(layer, self._slots, self._num_tokens)
        num_queries = query.size(2)
        # (prefixes, kv_heads, places × queries, …)
        scores = self._to_cells(query) @ keys.transpose(-1, -2)
        if self._mask is not None:
            by_place = scores.view(*scores.shape[:2], self._num_places, num_queries, -1)
            by_place.masked_fill_(~self._mask, float("-inf"))
        scores = torch.cat((scores, self._to_cells(own_scores)), dim=-1)
        weights = scores.softmax(dim=-1, dtype=torch.float32).to(values.dtype)
        attended = self._to_rows(weights[..., : self._num_tokens] @ values, num_queries)
        own_weights = self._to_rows(weights[..., self._num_tokens :], num_queries)
        return attended + own_weights @ own_values

    def _to_cells(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, kv_heads, queries, n) -> (prefixes, kv_heads, places × queries, n)"""
        if self._rows_of_cells is not None:
            x = x[self._rows_of_cells]
        if self._num_places == 1:
            return x
        cells = x.view(self._num_prefixes, self._num_places, *x.shape[1:]).transpose(1, 2)
        return cells.flatten(2, 3)

    def _to_rows(self, x: torch.Tensor, num_queries: int) -> torch.Tensor:
        """The inverse: (prefixes, kv_heads, places × queries, n) -> (rows, kv_heads, queries, n)"""
        if self._num_places > 1:
            by_place = x.reshape(*x.shape[:2], self._num_places, num_queries, x.size(-1))
            x = by_place.transpose(1, 2).flatten(0, 1)
        return x if self._cells_of_rows is None else x[self._cells_of_rows]
