"""The step loop's body: admit, encode media, prefill, decode, sample, finish.

Every rank holds one Engine, gets the same rows in the same order and calls `step` in the same
rhythm, so all collectives inside match. Only rank 0 hands the outcomes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from neva.errors import RowError
from neva.reasons import Reason
from worker.engine.feature_cache import FeatureCache
from worker.engine.language_model import LanguageModel
from worker.engine.protocol import (
    GenerateRequest,
    GenerateResult,
    MediaRef,
    Outcome,
    RequestFailed,
)
from worker.engine.sampler import VocabParallelSampler
from worker.engine.scheduler import Row, Scheduler, SlotMove, group_by_prompt_length
from worker.engine.stopping import StopRule, TextTokenizer
from worker.engine.vision import VisionEncoder

_PLACEHOLDER_ID = 0  # looked up for the media's places, then overwritten


class Engine:
    """Continuous batching over one rank's part of the model.

    Rows come and go at any step. An error of one row becomes its RequestFailed; any other
    exception leaves `step` and is the end of the engine.
    """

    def __init__(
        self,
        *,
        language_model: LanguageModel,
        vision: VisionEncoder,
        features: FeatureCache,
        scheduler: Scheduler,
        sampler: VocabParallelSampler,
        tokenizer: TextTokenizer,
        eos_ids: Sequence[int],
    ) -> None:
        self.language_model = language_model
        self.vision = vision
        self.scheduler = scheduler
        self._features = features
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
        """Empty the cache of media embeddings."""
        self._features.clear()

    @torch.inference_mode()
    def drop(self, tickets: Iterable[int]) -> None:
        """Forget requests; unknown tickets are those that finished meanwhile."""
        tickets = list(tickets)
        self._move(self.scheduler.drop(tickets))
        for ticket in tickets:
            self._stop_rules.pop(ticket, None)

    @torch.inference_mode()
    def step(self) -> list[tuple[int, Outcome]]:
        """Prefill what can be admitted, then one new token for every active row.

        Returns the outcomes of the rows that ended, by ticket.
        """
        self.num_steps += 1
        outcomes: list[tuple[int, Outcome]] = []
        rows, features = self._with_features(self.scheduler.take_waiting(), outcomes)
        for group in group_by_prompt_length(rows):
            self._prefill(group, features, outcomes)
        if self.scheduler.active:
            self._decode(outcomes)
        return outcomes

    def _with_features(
        self, rows: Sequence[Row], outcomes: list[tuple[int, Outcome]]
    ) -> tuple[list[Row], dict[str, torch.Tensor]]:
        """The rows whose media could be read, with the features by media key."""
        features: dict[str, torch.Tensor] = {}
        errors: dict[str, RowError] = {}
        ready: list[Row] = []
        for row in rows:
            media = row.request.media
            if media is None:
                ready.append(row)
                continue
            if media.key not in features and media.key not in errors:
                try:
                    features[media.key] = self._features_of(media)
                except RowError as error:
                    errors[media.key] = error
            if media.key in errors:
                why = errors[media.key]
                self._fail(row, why.reason, why.message, why.retryable, outcomes)
            elif (found := features[media.key].size(0)) != row.request.num_media_tokens:
                # Admission compared with the reference's shape; this is what its key stands for.
                message = (
                    f"the prompt has {row.request.num_media_tokens} media tokens, but the media"
                    f" known as {media.key!r} has {found} features"
                )
                self._fail(row, Reason.MEDIA_TOKEN_CONFLICT, message, False, outcomes)
            else:
                ready.append(row)
        return ready, features

    def _features_of(self, media: MediaRef) -> torch.Tensor:
        """The media's embeddings, encoded now unless they are still known.

        Raises:
            RowError: the media can't be read; equal on all ranks.
        """
        known = self._features.get(media.key)
        if known is not None:
            return known
        features = self.vision.encode(media)
        self._features.put(media.key, features)
        return features

    def _prefill(
        self,
        rows: Sequence[Row],
        features: dict[str, torch.Tensor],
        outcomes: list[tuple[int, Outcome]],
    ) -> None:
        """Compute equally long prompts together and choose their first tokens."""
        first_slot = self.scheduler.activate(rows)
        self.language_model.cache.reserve(
            first_slot + len(rows), max(row.max_tokens for row in self.scheduler.active)
        )
        embeddings = self.language_model.embed([_prompt_ids(row.request) for row in rows])
        for row_embeddings, row in zip(embeddings, rows, strict=True):
            if row.request.media is not None:
                start = len(row.request.before_ids)
                stop = start + row.request.num_media_tokens
                row_embeddings[start:stop] = features[row.request.media.key]
        self.num_prefilled_tokens += embeddings.size(0) * embeddings.size(1)
        logits = self.language_model.prefill(embeddings, first_slot)
        self._accept(rows, self._sampler.choose(logits, rows), outcomes)

    def _decode(self, outcomes: list[tuple[int, Outcome]]) -> None:
        rows = list(self.scheduler.active)
        logits = self.language_model.decode(
            last_ids=[row.token_ids[-1] for row in rows],
            positions=[row.num_prompt_tokens + len(row.token_ids) - 1 for row in rows],
        )
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
                self.language_model.cache.clear(self.scheduler.active.index(row))
                ended.append(row)
                continue
            row.token_ids.append(token)
            ending = self._stop_rules[row.ticket].check(row.token_ids)
            if ending is not None:
                del self._stop_rules[row.ticket]
                result = GenerateResult(
                    request_id=row.request.request_id,
                    token_ids=tuple(row.token_ids[: ending.num_kept]),
                    finish_reason=ending.finish_reason,
                    stop_text_tail=ending.stop_text_tail,
                )
                outcomes.append((row.ticket, result))
                ended.append(row)
        self._move(self.scheduler.retire(ended))

    def _move(self, moves: Iterable[SlotMove]) -> None:
        for move in moves:
            num_tokens = move.row.num_prompt_tokens + len(move.row.token_ids)
            self.language_model.cache.move(move.source, move.target, num_tokens)

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


def _prompt_ids(request: GenerateRequest) -> list[int]:
    placeholders = [_PLACEHOLDER_ID] * request.num_media_tokens
    return [*request.before_ids, *placeholders, *request.after_ids]
