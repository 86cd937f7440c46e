"""From a question to the token ids that the model reads, media span included.

The controller uses it to refuse rows that can't fit, the worker to ask the engine, and the demo's
training to make its targets, so all three see the same ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from neva.errors import ConfigError, RowError
from neva.model_profile import ModelProfile
from neva.reasons import Reason
from neva.templates import (
    MEDIA_TAGS,
    InsertMedia,
    MediaType,
    get_template,
    insert_media,
    split_at_media,
)
from neva.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as ids: `before_ids`, then `num_media_tokens` visual tokens, then `after_ids`.

    Attributes:
        text_with_tag: the rendered prompt with its literal `<video>` or `<image>` tag.
    """

    before_ids: tuple[int, ...]
    num_media_tokens: int
    after_ids: tuple[int, ...]
    text_with_tag: str

    @property
    def num_tokens(self) -> int:
        """Length of the whole prompt, visual tokens included."""
        return len(self.before_ids) + self.num_media_tokens + len(self.after_ids)


def build_prompt(
    question: str,
    media_type: MediaType,
    insert: InsertMedia | None,
    profile: ModelProfile,
    tokenizer: Tokenizer,
    num_frames: int,
    add_bos: bool = False,
) -> Prompt:
    """The prompt for one row.

    Args:
        question: the row's text as the user wrote it.
        insert: where the media tag goes; None when the question brings it.
        num_frames: frames of this row's clip.
        add_bos: ask for a begin-of-sequence id even where the model's tokenizer adds none.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, the text holds no tag, several, or the model's own
            placeholder token.
        ConfigError: a begin-of-sequence id was asked of a model that has none.
    """
    rendered = get_template(profile.template).render(insert_media(question, media_type, insert))
    before, after = split_at_media(rendered, media_type)

    # Encoded in one piece, because a tokenizer may treat the first characters of a text and those
    # behind a special token differently.
    placeholder = tokenizer.token_text(profile.image_token_id)
    if placeholder is None:
        raise ConfigError(f"the tokenizer knows no token {profile.image_token_id}")
    ids = tokenizer.encode(f"{before}{placeholder}{after}")
    if ids.count(profile.image_token_id) != 1:
        raise RowError(
            f"the text holds {placeholder!r}, the model's own placeholder for "
            f"{MEDIA_TAGS[media_type]}",
            reason=Reason.MEDIA_TOKEN_CONFLICT,
        )
    position = ids.index(profile.image_token_id)
    return Prompt(
        before_ids=(*_bos_ids(profile, add_bos), *ids[:position]),
        num_media_tokens=profile.tokens_per_frame * num_frames,
        after_ids=tuple(ids[position + 1 :]),
        text_with_tag=rendered,
    )


def require_context(prompt: Prompt, max_new_tokens: int, profile: ModelProfile) -> None:
    """Refuse a prompt that leaves no room for its answer.

    Raises:
        RowError: CONTEXT_OVERFLOW, with all the numbers. (The reference cuts the prompt's end off,
            which drops the media's end marker, and answers without looking.)
    """
    needed_tokens = prompt.num_tokens + max_new_tokens
    if needed_tokens > profile.context_tokens:
        raise RowError(
            f"the prompt has {prompt.num_tokens} tokens ({prompt.num_media_tokens} of them visual) "
            f"and {max_new_tokens} are to be generated: {needed_tokens} do not fit the model's "
            f"{profile.context_tokens}",
            reason=Reason.CONTEXT_OVERFLOW,
        )


def _bos_ids(profile: ModelProfile, add_bos: bool) -> tuple[int, ...]:
    if not (add_bos or profile.add_bos):
        return ()
    if profile.bos_token_id is None:
        raise ConfigError("add_BOS is set, but the model has no begin-of-sequence token")
    return (profile.bos_token_id,)
