"""Prompt templates: how a question becomes the text that the language model reads.

Rendered texts equal NeMo's NeVA (v2.0.0rc0 and r2.0.0rc1) character for character. The media stand
in the text as one literal tag, `<video>` or `<image>`, until the prompt becomes tokens
(`neva.prompting`), so a rendered text can be shown, hashed and compared without a tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from neva.errors import ConfigError, RowError
from neva.reasons import Reason

MediaType = Literal["video", "image"]
InsertMedia = Literal["left", "right"]

MEDIA_TAGS: Final[Mapping[MediaType, str]] = MappingProxyType(
    {"video": "<video>", "image": "<image>"}
)

_LLAVA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One conversation format.

    Attributes:
        name: the value of `conv_template` in a checkpoint's config.
        prefix: everything before the user's text.
        suffix: everything after it, up to where the answer begins.
        end_markers: texts that end an answer, besides the tokenizer's end of sequence.
    """

    name: str
    prefix: str
    suffix: str
    end_markers: tuple[str, ...]

    def render(self, user_text: str) -> str:
        """The whole prompt; `user_text` already holds its media tag."""
        return f"{self.prefix}{user_text}{self.suffix}"

    def clean(self, generated_text: str) -> str:
        """The answer as a reader wants it: no end marker, no surrounding white space.

        Markers are removed as whole suffixes. (NeMo strips their characters one by one, which
        turns "a red car" into "red car", or looks for the prompt's last words in the full text,
        which answers with the whole prompt when the model skips the space after them.)
        """
        text = generated_text.rstrip()
        while (marker := next((m for m in self.end_markers if text.endswith(m)), None)) is not None:
            text = text.removesuffix(marker).rstrip()
        return text.lstrip()


_V1 = PromptTemplate(
    name="v1",
    prefix=f"{_LLAVA_SYSTEM} USER: ",
    suffix=" ASSISTANT:",
    end_markers=("</s>", "<extra_id_7>"),
)

_TEMPLATES: Final[Mapping[str, PromptTemplate]] = MappingProxyType({_V1.name: _V1})


def get_template(name: str) -> PromptTemplate:
    """The template of that name.

    Raises:
        ConfigError: unknown name; the message lists the known ones.
    """
    try:
        return _TEMPLATES[name]
    except KeyError:
        known = ", ".join(sorted(_TEMPLATES))
        raise ConfigError(f"unknown prompt template {name!r}; known: {known}") from None


def insert_media(text: str, media_type: MediaType, insert: InsertMedia | None) -> str:
    """Put the media tag into the user's text: before it, behind it, or where it already stands.

    No separator is added, but every `<image>` tag is followed by a newline and `<video>` by none:
    that is how the reference builds its prompts.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, the text does not end up with exactly one tag of the media
            type and none of the other. The reference would answer such a row without looking.
    """
    tag = MEDIA_TAGS[media_type]
    match insert:
        case "left":
            text = tag + text
        case "right":
            text = text + tag
        case None:
            pass
        case _:
            raise ConfigError(f"insert_media_token must be left, right or null, not {insert!r}")

    num_tags = text.count(tag)
    if num_tags != 1:
        hint = (
            "the text has none and insert_media_token is null"
            if num_tags == 0
            else "the text brings its own besides the inserted one"
            if insert is not None
            else "the text repeats it"
        )
        raise RowError(
            f"the prompt must hold {tag} exactly once, it holds it {num_tags} times ({hint})",
            reason=Reason.MEDIA_TOKEN_CONFLICT,
        )
    for other_tag in MEDIA_TAGS.values():
        if other_tag != tag and other_tag in text:
            raise RowError(
                f"the text names {other_tag}, but the row's media is {media_type}",
                reason=Reason.MEDIA_TOKEN_CONFLICT,
            )
    return text.replace(MEDIA_TAGS["image"], MEDIA_TAGS["image"] + "\n")


def split_at_media(rendered: str, media_type: MediaType) -> tuple[str, str]:
    """The text before and after the one media tag.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, the tag does not stand there exactly once.
    """
    tag = MEDIA_TAGS[media_type]
    before, *rest = rendered.split(tag)
    if len(rest) != 1:
        raise RowError(
            f"the prompt must hold {tag} exactly once, it holds it {len(rest)} times",
            reason=Reason.MEDIA_TOKEN_CONFLICT,
        )
    return before, rest[0]


def expand_for_display(
    rendered: str,
    start: str,
    patch: str,
    end: str,
    num_media_tokens: int,
    use_im_start_end: bool = False,
) -> str:
    """The rendered prompt with each tag written out as the reference's placeholder tokens.

    With `use_im_start_end` the markers come on top of the `num_media_tokens` patches; without it
    (the default everywhere) the first and the last feature take the markers' places, so two
    patches fewer are written.
    """
    num_patches = num_media_tokens if use_im_start_end else num_media_tokens - 2
    span = f"{start}{patch * num_patches}{end}"
    for tag in MEDIA_TAGS.values():
        rendered = rendered.replace(tag, span)
    return rendered
