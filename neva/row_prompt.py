"""The prompt of a job's row: one rule for the controller, who refuses, and the worker, who asks."""

from __future__ import annotations

from neva.errors import ConfigError
from neva.model_profile import ModelProfile
from neva.prompting import Prompt, build_prompt, require_context
from neva.reasons import Reason
from neva.spec import JobSpec
from neva.templates import InsertMedia
from neva.tokens import Tokenizer


class RowPrompts:
    """Builds the prompts of one job.

    Raises:
        ConfigError: on construction, when media and new tokens alone overflow the context.
    """

    def __init__(self, spec: JobSpec, profile: ModelProfile, tokenizer: Tokenizer) -> None:
        self._spec = spec
        self._profile = profile
        self._tokenizer = tokenizer
        bare = self._build("", "left")
        num_new_tokens = spec.inference.tokens_to_generate
        needed_tokens = bare.num_tokens + num_new_tokens
        if needed_tokens > profile.context_tokens:
            raise ConfigError(
                f"no question fits: {bare.num_media_tokens} visual tokens, the template and "
                f"{num_new_tokens} new tokens need {needed_tokens} of the model's "
                f"{profile.context_tokens}; lower inference.num_frames or tokens_to_generate",
                reason=Reason.CONTEXT_OVERFLOW,
            )

    @property
    def num_frames(self) -> int:
        """Frames that one row's media takes in the prompt."""
        if self._spec.media_type == "image":
            return 1
        return self._spec.inference.num_frames or self._profile.num_frames

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
        )
