"""Choose each row's next token from logits that are split over the ranks by vocabulary.

Greedy rows put three numbers a row on the wire. Rows that sample send their logits to rank 0,
which draws and tells the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from worker.engine.distributed import Ranks, gather_all
from worker.engine.sampling import kept_probabilities, penalize_repetition, pick, uniform
from worker.engine.scheduler import Row


class VocabParallelSampler:
    """Collective: all ranks call `choose` with the same rows and their own part of the logits."""

    def __init__(self, num_ids: int, eos_ids: Sequence[int], ranks: Ranks) -> None:
        """num_ids: ids from there on are padding or unknown to the tokenizer, never chosen."""
        self._num_ids = num_ids
        self._eos_ids = tuple(eos_ids)
        self._ranks = ranks

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]:
        """The next token of each row, the same on all ranks; None where a logit is not finite.

        logits: this rank's part, (rows, padded vocabulary / ranks).
        """
        width = logits.size(1)
        first_id = self._ranks.rank * width
        is_padding = torch.arange(first_id, first_id + width, device=logits.device) >= self._num_ids
        logits = logits.float().masked_fill(is_padding, 0.0)
        broken = ~logits.isfinite().all(dim=-1)  # (rows,)
        logits.masked_fill_(is_padding, float("-inf"))
        self._block_eos(logits, rows, first_id)
        best_ids, is_broken = self._greedy(logits, broken, first_id)
        tokens: list[int | None] = [
            None if bad else token for token, bad in zip(best_ids, is_broken, strict=True)
        ]
        sampling = [
            index
            for index, row in enumerate(rows)
            if not row.request.sampling.greedy and not is_broken[index]
        ]
        if sampling:
            drawn = self._sample(logits[sampling], [rows[index] for index in sampling])
            for index, token in zip(sampling, drawn, strict=True):
                tokens[index] = token
        return tokens

    def _block_eos(self, logits: torch.Tensor, rows: Sequence[Row], first_id: int) -> None:
        """No end of sequence before min_new_tokens; changes logits in place."""
        blocked = [
            index
            for index, row in enumerate(rows)
            if len(row.token_ids) < row.request.sampling.min_new_tokens
        ]
        if not blocked:
            return
        for eos in self._eos_ids:
            if first_id <= eos < first_id + logits.size(1):
                logits[blocked, eos - first_id] = float("-inf")

    def _greedy(
        self, logits: torch.Tensor, broken: torch.Tensor, first_id: int
    ) -> tuple[list[int], list[bool]]:
        """Each row's likeliest id, the lowest among equals, and whether any rank found it broken.

        One exchange of (value, id, broken) a row; float64 holds every id exactly.
        """
        best = logits.argmax(dim=-1, keepdim=True)  # the first of equal ones
        mine = torch.stack(
            [
                logits.gather(-1, best)[:, 0].double(),
                best[:, 0].double() + first_id,
                broken.double(),
            ],
            dim=-1,
        )
        everyone = torch.stack(gather_all(mine, self._ranks.tensor_group))  # (ranks, rows, 3)
        winner = everyone[..., 0].argmax(dim=0, keepdim=True)  # the lowest rank among equals
        ids = everyone[..., 1].gather(0, winner)[0]
        is_broken = everyone[..., 2].amax(dim=0)
        table = torch.stack((ids, is_broken)).tolist()
        return [int(token) for token in table[0]], [bool(bad) for bad in table[1]]

    def _sample(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
        """Draw for rows that sample; logits: (rows, this rank's part of the vocabulary)."""
        ranks = self._ranks
        if ranks.size == 1:
            return _draw(logits, rows)
        logits = logits.contiguous()
        parts = [torch.empty_like(logits) for _ in range(ranks.size)] if ranks.rank == 0 else None
        dist.gather(logits, parts, group_dst=0, group=ranks.tensor_group)
        if parts is not None:
            drawn = torch.tensor(_draw(torch.cat(parts, dim=-1), rows), device=logits.device)
        else:
            drawn = torch.empty(len(rows), dtype=torch.long, device=logits.device)
        # Drawn once and told: ranks that each computed it could disagree in the last bit.
        dist.broadcast(drawn, group_src=0, group=ranks.tensor_group)
        ids: list[int] = drawn.tolist()
        return ids


def _draw(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """logits: (rows, whole padded vocabulary), -inf for what must not be chosen."""
    params = [row.request.sampling for row in rows]

    def column(values: list[float], dtype: torch.dtype) -> torch.Tensor:
        return torch.tensor(values, dtype=dtype, device=logits.device)

    logits = logits / column([p.temperature for p in params], torch.float32)[:, None]
    for row_logits, row, p in zip(logits, rows, params, strict=True):
        penalize_repetition(row_logits, row.token_ids, p.repetition_penalty)
    probabilities = kept_probabilities(
        logits,
        top_k=column([p.top_k for p in params], torch.long),
        top_p=column([p.top_p for p in params], torch.float64),
    )
    uniforms = [
        uniform(p.seed, row.request.row_key, len(row.token_ids))
        for row, p in zip(rows, params, strict=True)
    ]
    ids: list[int] = pick(probabilities, column(uniforms, torch.float64)).tolist()
    return ids
