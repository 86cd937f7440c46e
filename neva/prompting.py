"""From a question to the token ids that the model reads, media span included.

The controller uses it to refuse rows that can't fit, the worker to ask the engine, and the demo's
training to make its targets, so all three see the same ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from neva.errors import ConfigError, RowError
from neva.markers import BOS_SURROGATE, EOS_SURROGATE, MediaMarkers
from neva.media_tokens import media_span
from neva.model_profile import ModelProfile, template_of
from neva.reasons import Reason
from neva.templates import (
    MEDIA_TAGS,
    InsertMedia,
    MediaType,
    Template,
    insert_media,
    split_at_media,
)
from neva.tokens import Tokenizer

UNK_ID, BOS_ID, EOS_ID = 0, 1, 2  # what v1, llama_2 and mistral checkpoints put for surrogates


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
    template: Template | None = None,
) -> Prompt:
    """The prompt for one row.

    Args:
        question: the row's text as the user wrote it.
        insert: where the media tag goes; None when the question brings it.
        num_frames: frames of this row's clip.
        add_bos: ask for a begin-of-sequence id even where the model's tokenizer adds none. A
            template that writes one itself gets no second.
        template: that of the profile, if it is known already.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, the text holds no tag, several, or one of the model's own
            placeholder tokens.
        ConfigError: a begin-of-sequence id was asked of a model that has none.
    """
    template = template or template_of(profile)
    rendered = template.render(insert_media(question, media_type, insert))
    before, after = split_at_media(rendered, media_type)
    if profile.markers is None:
        before_ids, after_ids = _around_placeholder(before, after, media_type, profile, tokenizer)
    else:
        before_ids, after_ids = _around_markers(
            before, after, profile.markers, profile.use_im_start_end, tokenizer
        )
        if template.uses_surrogates:
            new_ids = _surrogates(profile.markers, tokenizer)
            before_ids = [new_ids.get(token, token) for token in before_ids]
            after_ids = [new_ids.get(token, token) for token in after_ids]
    bos_ids = _bos_ids(profile, add_bos)
    if tuple(before_ids[:1]) == bos_ids:
        bos_ids = ()
    return Prompt(
        before_ids=(*bos_ids, *before_ids),
        num_media_tokens=profile.tokens_per_frame * num_frames,
        after_ids=tuple(after_ids),
        text_with_tag=rendered,
    )


def _around_placeholder(
    before: str, after: str, media_type: MediaType, profile: ModelProfile, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """Ids before and after the media of a Hugging Face model: one kind of placeholder token."""
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
    return ids[:position], ids[position + 1 :]


def _around_markers(
    before: str, after: str, markers: MediaMarkers, use_im_start_end: bool, tokenizer: Tokenizer
) -> tuple[list[int], list[int]]:
    """Ids before and after the media's features in a NeMo model's prompt.

    One patch token stands for them all here: each is a token of its own, however many follow.
    With `use_im_start_end` the markers are among the ids, without it features take their places.
    """
    start_id, patch_id, end_id = marker_ids(markers, tokenizer)
    ids = tokenizer.encode(f"{before}{markers.start}{markers.patch}{markers.end}{after}")
    for spelling, token_id in ((markers.start, start_id), (markers.patch, patch_id)):
        if ids.count(token_id) != 1:
            raise RowError(
                f"the text holds {spelling!r}, one of the model's own tokens around media",
                reason=Reason.MEDIA_TOKEN_CONFLICT,
            )
    num_features = 1 if use_im_start_end else 3
    start, stop = media_span(ids, start_id, end_id, num_features, use_im_start_end)
    return ids[:start], ids[stop:]


def marker_ids(markers: MediaMarkers, tokenizer: Tokenizer) -> tuple[int, int, int]:
    """Ids of the start, patch and end tokens.

    Raises:
        ConfigError: INVALID_CHECKPOINT, the tokenizer has none for one of them.
    """
    ids = []
    for spelling in (markers.start, markers.patch, markers.end):
        token_id = tokenizer.token_id(spelling)
        if token_id is None:
            raise ConfigError(
                f"the tokenizer has no token {spelling}, which marks media in the prompt",
                reason=Reason.INVALID_CHECKPOINT,
            )
        ids.append(token_id)
    return ids[0], ids[1], ids[2]


def _surrogates(markers: MediaMarkers, tokenizer: Tokenizer) -> dict[int, int]:
    """NeVA's replacements after tokenizing; the new ids are those of Llama's vocabulary."""
    replacements = {markers.patch: UNK_ID, BOS_SURROGATE: BOS_ID, EOS_SURROGATE: EOS_ID}
    found = ((tokenizer.token_id(spelling), new_id) for spelling, new_id in replacements.items())
    return {token_id: new_id for token_id, new_id in found if token_id is not None}


def require_tokens(template: Template, tokenizer: Tokenizer) -> None:
    """Refuse a template whose control tokens the tokenizer would spell out.

    Raises:
        ConfigError: INVALID_CHECKPOINT, naming all of them.
    """
    unknown = [text for text in template.required_tokens if tokenizer.token_id(text) is None]
    if unknown:
        raise ConfigError(
            f"the prompt template {template.name} does not belong to the model's tokenizer, which "
            f"has no token {', '.join(unknown)}",
            reason=Reason.INVALID_CHECKPOINT,
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
