"""The prompt of a job's row: one rule for the controller, who refuses, and the worker, who asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from neva.compat import compat_record, require_known_quirks
from neva.errors import ConfigError, RowError
from neva.media_rules import media_rules
from neva.model_profile import ModelProfile, template_of
from neva.prompt_fit import PromptFit
from neva.prompting import Prompt, build_prompt, require_context, require_tokens
from neva.reasons import Reason
from neva.spec import JobSpec
from neva.templates import InsertMedia
from neva.tokens import Tokenizer

MAX_PROBABILITIES_PER_ROW: Final = 1 << 21
"""With all_probs: numbers that a row's answer may bring along, about 20 MB of JSON."""


_REMEMBERED_QUESTIONS: Final = 4096


class RowPrompts:
    """Builds the prompts of one job.

    Attributes:
        template: how they are written, and how answers are cleaned.
        rules: which frames of its media a row shows.
        stop_strings: texts that end an answer: the job's, and the template's own tokens.
        compat: the quirks in effect by name, for the output records; empty by default.

    Raises:
        ConfigError: on construction, when the job can't be answered with this model at all: a
            template that the tokenizer does not know, media and new tokens that overflow the
            context, a quirk that the original never had with this template.
    """

    def __init__(self, spec: JobSpec, profile: ModelProfile, tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._profile = profile
        self._tokenizer = tokenizer
        self.template = template_of(profile)
        require_tokens(self.template, tokenizer)
        require_known_quirks(spec.model.compat, self.template)
        self.compat = compat_record(spec.model.compat, profile)
        self.rules = media_rules(spec, profile)
        known_ends = (
            text for text in self.template.end_markers if tokenizer.token_id(text) is not None
        )
        self.stop_strings = tuple(dict.fromkeys((*spec.inference.end_strings, *known_ends)))
        num_text_tokens = self._require_any_question_fits()
        spellings = (
            (tokenizer.token_text(profile.image_token_id) or "",)
            if profile.markers is None
            else (profile.markers.start, profile.markers.patch, profile.markers.end)
        )
        self._fit = PromptFit(
            self.template,
            spec.media_type,
            spec.inference.insert_media_token,
            spellings,
            tokenizer.tokens_per_character,
            num_text_tokens,
        )
        # Many rows ask the same.
        self._problem = lru_cache(maxsize=_REMEMBERED_QUESTIONS)(self._problem_of)
        self._require_moderate_probabilities()

    @property
    def num_frames(self) -> int:
        """Frames that one row's media takes in the prompt."""
        return self.rules.num_frames

    def refused(self, questions: Sequence[str]) -> dict[int, RowError]:
        """What `build` would raise, by index; the more alike the questions, the quicker."""
        if self._fit.vouches_for_all(questions):
            return {}
        problems = ((n, self._problem(text)) for n, text in enumerate(questions))
        return {n: problem for n, problem in problems if problem is not None}

    def _problem_of(self, question: str) -> RowError | None:
        if self._fit.vouches_for(question):
            return None
        try:
            self.build(question)
        except RowError as error:
            return error
        return None

    def build(self, question: str) -> Prompt:
        """Raises RowError: CONTEXT_OVERFLOW or MEDIA_TOKEN_CONFLICT."""
        prompt = self._build(question, self._spec.inference.insert_media_token)
        require_context(prompt, self._spec.inference.tokens_to_generate, self._profile)
        return prompt

    def _build(self, question: str, insert: InsertMedia | None) -> Prompt:
        return build_prompt(
            question,
            self._spec.media_type,
            insert,
            self._profile,
            self._tokenizer,
            self.num_frames,
            self._spec.inference.add_BOS,
            self.template,
        )

    def _require_any_question_fits(self) -> int:
        """Returns how many tokens a prompt's text may have."""
        bare = self._build("", "left")
        num_new_tokens = self._spec.inference.tokens_to_generate
        needed_tokens = bare.num_tokens + num_new_tokens
        if needed_tokens > self._profile.context_tokens:
            raise ConfigError(
                f"no question fits: {bare.num_media_tokens} visual tokens, the template and "
                f"{num_new_tokens} new tokens need {needed_tokens} of the model's "
                f"{self._profile.context_tokens}; lower inference.num_frames or tokens_to_generate",
                reason=Reason.CONTEXT_OVERFLOW,
            )
        return self._profile.context_tokens - num_new_tokens - bare.num_media_tokens

    def _require_moderate_probabilities(self) -> None:
        if not self._spec.inference.all_probs:
            return
        num_new_tokens = self._spec.inference.tokens_to_generate
        num_values = num_new_tokens * self._profile.vocab_size
        if num_values > MAX_PROBABILITIES_PER_ROW:
            most = MAX_PROBABILITIES_PER_ROW // self._profile.vocab_size
            raise ConfigError(
                f"all_probs would write {num_values} numbers a row ({num_new_tokens} tokens of a "
                f"vocabulary of {self._profile.vocab_size}); lower tokens_to_generate to {most} or "
                "leave all_probs off"
            )
