"""Choose each row's next token from logits that are split over the ranks by vocabulary.

Greedy rows put three numbers a row on the wire. Rows that sample send their logits to the
first rank, which draws and tells the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from worker.engine.distributed import Ranks, gather_all
from worker.engine.sampling import (
    kept_probabilities,
    penalize_repetition,
    penalized_ids,
    pick,
    step_key,
)
from worker.engine.scheduler import Row


class VocabParallelSampler:
    """Collective: the ranks that share the vocabulary call `choose` with the same rows, each with
    its own part of the logits.
    """

    def __init__(self, num_ids: int, eos_ids: Sequence[int], ranks: Ranks) -> None:
        """num_ids: ids from there on are padding or unknown to the tokenizer, never chosen."""
        self._num_ids = num_ids
        self._eos_ids = tuple(eos_ids)
        self._ranks = ranks

    @torch.inference_mode()
    def choose(self, logits: torch.Tensor, rows: Sequence[Row]) -> list[int | None]:
        """The next token of each row, equal on these ranks; None where a logit is not finite.

        Log probabilities that a row asked for are appended to it (`Row.logprobs`).

        logits: this rank's part, (rows, padded vocabulary / ranks).
        """
        width = logits.size(1)
        first_id = self._ranks.tensor_rank * width
        is_padding = torch.arange(first_id, first_id + width, device=logits.device) >= self._num_ids
        logits = logits.float().masked_fill(is_padding, 0.0)
        broken = ~logits.isfinite().all(dim=-1)  # (rows,)
        logits.masked_fill_(is_padding, float("-inf"))
        asking = [i for i, row in enumerate(rows) if row.request.sampling.logprobs != "none"]
        log_probabilities = self._log_probabilities(logits[asking]) if asking else None
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
        if log_probabilities is not None:
            self._record(log_probabilities, rows, asking, tokens, first_id)
        return tokens

    def _log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Of this rank's part of the vocabulary; logits and result: (rows, vocabulary / ranks)."""
        logits = logits.double()
        parts = gather_all(logits.logsumexp(dim=-1), self._ranks.tensor_group)
        total = torch.stack(parts).logsumexp(dim=0)  # (rows,), equal on all ranks
        return logits - total[:, None]

    def _record(
        self,
        log_probabilities: torch.Tensor,
        rows: Sequence[Row],
        asking: Sequence[int],
        tokens: Sequence[int | None],
        first_id: int,
    ) -> None:
        """Append what the rows `asking` want to know of their tokens to those rows.

        log_probabilities: (asking rows, this rank's part of the vocabulary).
        """
        group, width = self._ranks.tensor_group, log_probabilities.size(1)
        # A row without a token is broken; it takes part in the exchange and is told nothing.
        ids = torch.tensor([tokens[i] or 0 for i in asking], device=log_probabilities.device)
        mine = (ids >= first_id) & (ids < first_id + width)
        places = (ids - first_id).clamp(0, width - 1)[:, None]
        own = torch.where(mine, log_probabilities.gather(-1, places)[:, 0], 0.0)
        chosen: list[float] = torch.stack(gather_all(own, group)).sum(dim=0).tolist()
        for index, value in zip(asking, chosen, strict=True):
            if tokens[index] is not None:
                rows[index].logprobs.append(value)
        everything = [n for n, i in enumerate(asking) if rows[i].request.sampling.logprobs == "all"]
        if not everything:
            return
        parts = gather_all(log_probabilities[everything], group)
        table = torch.cat(parts, dim=-1)[:, : self._num_ids].tolist()
        for n, values in zip(everything, table, strict=True):
            if tokens[asking[n]] is not None:
                rows[asking[n]].all_logprobs.append(tuple(values))

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
        if ranks.tensor_size == 1:
            return _draw(logits, rows)
        logits = logits.contiguous()
        is_drawing = ranks.tensor_rank == 0
        parts = [torch.empty_like(logits) for _ in range(ranks.tensor_size)] if is_drawing else None
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
        rule, request = p.repetition_rule, row.request
        prompt_ids = (*request.before_ids, *request.after_ids) if rule == "nemo-rc0" else ()
        used_ids = penalized_ids(prompt_ids, row.token_ids, rule)
        penalize_repetition(row_logits, used_ids, p.repetition_penalty, rule)
    probabilities = kept_probabilities(
        logits,
        top_k=column([p.top_k for p in params], torch.long),
        top_p=column([p.top_p for p in params], torch.float64),
    )
    keys = [
        step_key(p.seed, row.request.row_key, len(row.token_ids))
        for row, p in zip(rows, params, strict=True)
    ]
    ids: list[int] = pick(probabilities, torch.tensor(keys, device=logits.device)).tolist()
    return ids
