"""The step loop's body: admit, compute a bounded portion of prompts and decode, sample, finish.

Every rank holds one Engine, gets the same rows in the same order and calls `step` in the same
rhythm, so all collectives inside match. Only rank 0 hands the outcomes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch.nn.functional import pad

from neva.reasons import Reason
from worker.engine.language_model import LanguageModel
from worker.engine.passes import PrefixWork, RowWork
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
        self.num_tokens = 0  # chosen
        self.cache_need_tokens = 0  # what the admitted rows need of the cache

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
        """One pass: a bounded portion of the prompts, and one token for every active row.

        Returns the outcomes of the rows that ended, by ticket.
        """
        self.num_steps += 1
        outcomes: list[tuple[int, Outcome]] = []
        need = self.scheduler.admit()
        self._swap_prefixes()
        self.language_model.cache.reserve(need)
        self.cache_need_tokens = need.num_tokens
        decoding = list(self.scheduler.active)
        # Rows that are ready have their part of the step for sure; those that become ready by the
        # pieces get what these leave.
        left = self.scheduler.limits.step_tokens
        pieces = self.scheduler.next_pieces(left - self.scheduler.num_ready_tokens())
        groups = group_pieces(self._prepared(pieces, outcomes))
        prefix_work = [self._prefix_work(group) for group in groups]
        computed = [piece for group in groups for piece in group]
        for piece in computed:
            piece.prefix.num_computed += piece.num_tokens
        left -= sum(piece.width for piece in computed)
        ready = group_rows(self.scheduler.take_ready(left, at_least_one=not pieces))
        row_work = [self._first_work(group) for group in ready]
        if decoding:
            row_work.append(self._next_work(decoding))
        if not prefix_work and not row_work:
            return outcomes
        finite, logits = self.language_model.compute(prefix_work, row_work)
        broken = self._finish_pieces(computed, finite, outcomes)
        rows = [row for group in [*ready, decoding] for row in group]
        if rows:
            self.num_tokens += len(rows)
            tokens = self._sampler.choose(logits, rows)
            # What a broken prefix gave its rows may look like numbers.
            self._accept(
                rows,
                [None if r.prefix in broken else t for r, t in zip(rows, tokens, strict=True)],
                outcomes,
            )
        return outcomes

    def _prepared(
        self, pieces: Sequence[Piece], outcomes: list[tuple[int, Outcome]]
    ) -> list[Piece]:
        """Those whose input is there; the users of the others fail."""
        if not pieces:
            return []
        problems = self.inputs.prepare([piece.prefix for piece in pieces])
        for prefix, problem in problems.items():
            self._fail_users(prefix, problem.reason, problem.message, problem.retryable, outcomes)
        return [piece for piece in pieces if piece.prefix not in problems]

    def _prefix_work(self, group: Sequence[Piece]) -> PrefixWork:
        start, width = group[0].start, group[0].width
        self.num_prefilled_tokens += len(group) * width
        parts = [self.inputs.of(p.prefix)[start : start + p.num_tokens] for p in group]
        return PrefixWork(
            torch.stack([_padded(part, width) for part in parts]),
            [piece.prefix.slot for piece in group],
            start,
        )

    def _finish_pieces(
        self,
        pieces: Sequence[Piece],
        finite: Sequence[bool],
        outcomes: list[tuple[int, Outcome]],
    ) -> list[Prefix]:
        """Forget the inputs of prefixes that are ready; returns those that are not finite."""
        broken: list[Prefix] = []
        for piece, is_finite in zip(pieces, finite, strict=True):
            prefix = piece.prefix
            if not is_finite:
                broken.append(prefix)
                self.language_model.cache.prefixes.clear(prefix.slot)
                message = "logits of token 0 are not finite"
                self._fail_users(prefix, Reason.NUMERICAL_ERROR, message, False, outcomes)
            elif prefix.is_ready:
                self.inputs.forget(prefix)
        return broken

    def _first_work(self, group: Sequence[Row]) -> RowWork:
        """The own parts of rows that have no token yet; they take their slots."""
        width = bucketed(group[0].num_own_prompt_tokens)
        first_slot = self.scheduler.activate(group)
        self.num_prefilled_tokens += len(group) * width
        return RowWork(
            torch.stack([_padded(self._own_embeddings(row), width) for row in group]),
            _batch(group, first_slot, width),
            [row.num_own_prompt_tokens - 1 for row in group],
        )

    def _next_work(self, rows: Sequence[Row]) -> RowWork:
        """The newest token of the rows in the first slots."""
        embeddings = self.language_model.embed([row.token_ids[-1] for row in rows])
        return RowWork(embeddings[:, None], _batch(rows, 0, 1), [0] * len(rows))

    def _own_embeddings(self, row: Row) -> torch.Tensor:
        """(own prompt tokens, hidden)"""
        tail = self.inputs.tail_of(row.prefix) if row.prefix is not None else None
        if tail is not None:
            return tail
        request = row.request
        ids = (*request.before_ids, *request.after_ids)
        return self.language_model.embed(ids[len(ids) - row.num_own_prompt_tokens :])

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
