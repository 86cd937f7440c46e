"""The step loop's body: admit, prefill a bounded portion, decode, sample, finish.

Every rank holds one Engine, gets the same rows in the same order and calls `step` in the same
rhythm, so all collectives inside match. Only rank 0 hands the outcomes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.nn.functional import pad

from neva.reasons import Reason
from worker.engine.language_model import LanguageModel
from worker.engine.pipeline_sampler import Sampler
from worker.engine.prefix_inputs import PrefixInputs
from worker.engine.prefixes import Prefix
from worker.engine.protocol import GenerateRequest, GenerateResult, Outcome, RequestFailed
from worker.engine.row_batch import RowBatch
from worker.engine.scheduler import (
    Piece,
    Row,
    Scheduler,
    SlotMove,
    bucketed,
    group_pieces,
    group_rows,
)
from worker.engine.stopping import Ending, StopRule, TextTokenizer


class Engine:
    """Continuous batching over one rank's part of the model.

    Rows come and go at any step. An error of one row becomes its RequestFailed; any other
    exception leaves `step` and is the end of the engine.
    """

    def __init__(
        self,
        *,
        language_model: LanguageModel,
        inputs: PrefixInputs,
        scheduler: Scheduler,
        sampler: Sampler,
        tokenizer: TextTokenizer,
        eos_ids: Sequence[int],
    ) -> None:
        self.language_model = language_model
        self.scheduler = scheduler
        self.inputs = inputs
        self._sampler = sampler
        self._tokenizer = tokenizer
        self._eos_ids = tuple(eos_ids)
        self._stop_rules: dict[int, StopRule] = {}
        self.num_steps = 0
        self.num_prefilled_tokens = 0  # positions computed for prompts, padding included

    @property
    def has_work(self) -> bool:
        return self.scheduler.has_work

    def add(self, ticket: int, request: GenerateRequest) -> None:
        """Queue a request that `admission.refusal` accepted. Tickets are never used twice."""
        self._stop_rules[ticket] = StopRule(
            eos_ids=self._eos_ids,
            stop_strings=request.sampling.stop_strings,
            max_new_tokens=request.sampling.max_new_tokens,
            tokenizer=self._tokenizer,
        )
        self.scheduler.add(Row(ticket, request))

    def forget_media(self) -> None:
        """Empty the caches of media embeddings and of prefixes that nobody uses."""
        self.inputs.forget_all()
        self.scheduler.prefixes.clear_unused()

    @torch.inference_mode()
    def drop(self, tickets: Iterable[int]) -> None:
        """Forget requests; unknown tickets are those that finished meanwhile."""
        tickets = list(tickets)
        self._move(self.scheduler.drop(tickets))
        for ticket in tickets:
            self._stop_rules.pop(ticket, None)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Outcome]]:
        """Prefill a bounded portion of what is admitted, then one token for every active row.

        Returns the outcomes of the rows that ended, by ticket.
        """
        self.num_steps += 1
        outcomes: list[tuple[int, Outcome]] = []
        need = self.scheduler.admit()
        self._swap_prefixes()
        self.language_model.cache.reserve(need)
        # Rows that are ready have their part of the step for sure, but are computed behind the
        # pieces, together with those that become ready by them: one pass instead of two.
        left = self.scheduler.limits.step_tokens
        pieces = self.scheduler.next_pieces(left - self.scheduler.num_ready_tokens())
        if pieces:
            left -= self._compute_pieces(pieces, outcomes)
        ready = self.scheduler.take_ready(left, at_least_one=not pieces)
        self._start_rows(ready, outcomes)
        if self.scheduler.active:
            self._decode(outcomes)
        return outcomes

    def _compute_pieces(self, pieces: Sequence[Piece], outcomes: list[tuple[int, Outcome]]) -> int:
        """Compute pieces of prefixes; how many positions that were."""
        problems = self.inputs.prepare([piece.prefix for piece in pieces])
        for prefix, problem in problems.items():
            self._fail_users(prefix, problem.reason, problem.message, problem.retryable, outcomes)
        num_tokens = 0
        for group in group_pieces(piece for piece in pieces if piece.prefix not in problems):
            num_tokens += self._compute_together(group, outcomes)
        return num_tokens

    def _compute_together(self, group: Sequence[Piece], outcomes: list[tuple[int, Outcome]]) -> int:
        start, width = group[0].start, group[0].width
        embeddings = torch.stack(
            [
                _padded(self.inputs.of(piece.prefix)[start : start + piece.num_tokens], width)
                for piece in group
            ]
        )
        finite = self.language_model.prefill_prefixes(
            embeddings, [piece.prefix.slot for piece in group], start
        )
        for piece, is_finite in zip(group, finite, strict=True):
            prefix = piece.prefix
            prefix.num_computed += piece.num_tokens
            if not is_finite:
                self.language_model.cache.prefixes.clear(prefix.slot)
                message = "logits of token 0 are not finite"
                self._fail_users(prefix, Reason.NUMERICAL_ERROR, message, False, outcomes)
            elif prefix.is_ready:
                self.inputs.forget(prefix)
        self.num_prefilled_tokens += len(group) * width
        return len(group) * width

    def _start_rows(self, rows: Sequence[Row], outcomes: list[tuple[int, Outcome]]) -> None:
        """Compute the own parts of rows and choose their first tokens."""
        for group in group_rows(rows):
            width = bucketed(group[0].num_own_prompt_tokens)
            first_slot = self.scheduler.activate(group)
            embeddings = torch.stack([_padded(self._own_embeddings(row), width) for row in group])
            logits = self.language_model.prefill_rows(
                embeddings,
                _batch(group, first_slot, width),
                [row.num_own_prompt_tokens - 1 for row in group],
            )
            self.num_prefilled_tokens += len(group) * width
            self._accept(group, self._sampler.choose(logits, group), outcomes)

    def _own_embeddings(self, row: Row) -> torch.Tensor:
        """(own prompt tokens, hidden)"""
        tail = self.inputs.tail_of(row.prefix) if row.prefix is not None else None
        if tail is not None:
            return tail
        request = row.request
        ids = (*request.before_ids, *request.after_ids)
        return self.language_model.embed(ids[len(ids) - row.num_own_prompt_tokens :])

    def _decode(self, outcomes: list[tuple[int, Outcome]]) -> None:
        rows = list(self.scheduler.active)
        logits = self.language_model.decode([row.token_ids[-1] for row in rows], _batch(rows, 0, 1))
        self._accept(rows, self._sampler.choose(logits, rows), outcomes)

    def _accept(
        self,
        rows: Sequence[Row],
        tokens: Sequence[int | None],
        outcomes: list[tuple[int, Outcome]],
    ) -> None:
        """Append each row's token and take the rows that ended out of the batch."""
        ended: list[Row] = []
        for row, token in zip(rows, tokens, strict=True):
            if token is None:
                message = f"logits of token {len(row.token_ids)} are not finite"
                self._fail(row, Reason.NUMERICAL_ERROR, message, False, outcomes)
                self.language_model.cache.rows.clear(self.scheduler.active.index(row))
                ended.append(row)
                continue
            row.token_ids.append(token)
            ending = self._stop_rules[row.ticket].check(row.token_ids)
            if ending is not None:
                del self._stop_rules[row.ticket]
                outcomes.append((row.ticket, _result(row, ending)))
                ended.append(row)
        if ended:
            self._move(self.scheduler.retire(ended))

    def _move(self, moves: Iterable[SlotMove]) -> None:
        for move in moves:
            num_tokens = move.row.num_own_prompt_tokens + len(move.row.token_ids)
            self.language_model.cache.rows.move(move.source, move.target, num_tokens)
        self._swap_prefixes()

    def _swap_prefixes(self) -> None:
        swaps = self.scheduler.prefixes.swaps
        for swap in swaps:
            self.language_model.cache.prefixes.swap(swap.one, swap.other, swap.num_tokens)
        swaps.clear()

    def _fail_users(
        self,
        prefix: Prefix,
        reason: Reason,
        message: str,
        retryable: bool,
        outcomes: list[tuple[int, Outcome]],
    ) -> None:
        for row in self.scheduler.take_users(prefix):
            self._fail(row, reason, message, retryable, outcomes)
        self._swap_prefixes()

    def _fail(
        self,
        row: Row,
        reason: Reason,
        message: str,
        retryable: bool,
        outcomes: list[tuple[int, Outcome]],
    ) -> None:
        del self._stop_rules[row.ticket]
        failure = RequestFailed(row.request.request_id, reason, message, retryable)
        outcomes.append((row.ticket, failure))


def _result(row: Row, ending: Ending) -> GenerateResult:
    num_kept, asked = ending.num_kept, row.request.sampling.logprobs
    return GenerateResult(
        request_id=row.request.request_id,
        token_ids=tuple(row.token_ids[:num_kept]),
        finish_reason=ending.finish_reason,
        stop_text_tail=ending.stop_text_tail,
        stop_ids=tuple(row.token_ids[num_kept:]),
        logprobs=tuple(row.logprobs[:num_kept]) if asked != "none" else None,
        all_logprobs=tuple(row.all_logprobs[:num_kept]) if asked == "all" else None,
    )


def _batch(rows: Sequence[Row], first_slot: int, num_tokens: int) -> RowBatch:
    """The next `num_tokens` of rows that stand in slots from `first_slot` on."""
    return RowBatch(
        first_slot=first_slot,
        own_starts=tuple(row.num_own_cached for row in rows),
        num_tokens=num_tokens,
        prefix_slots=tuple(row.prefix.slot if row.prefix is not None else -1 for row in rows),
        prefix_lengths=tuple(row.num_prefix_tokens for row in rows),
    )


def _padded(embeddings: torch.Tensor, width: int) -> torch.Tensor:
    """(tokens, hidden) with zeros behind: (width, hidden)"""
    return pad(embeddings, (0, 0, 0, width - embeddings.size(0)))
