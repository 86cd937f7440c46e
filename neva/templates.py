"""Prompt templates: how a question becomes the text that the language model reads.

Rendered texts equal NeMo's NeVA (v2.0.0rc0 and r2.0.0rc1) character for character. The media stand
in the text as one literal tag, `<video>` or `<image>`, until the prompt becomes tokens
(`neva.prompting`), so a rendered text can be shown, hashed and compared without a tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, Protocol

from neva.errors import ConfigError, RowError
from neva.markers import BOS_SURROGATE, EOS_SURROGATE, MediaMarkers
from neva.media_tokens import num_patch_tokens
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
_VISUAL_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
# Fixed in the original, too: the yaml's `quality`, `toxicity` and so on are read by nothing.
STEERLM_LABELS: Final = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
_SURROGATE_ENDS = ("</s>", EOS_SURROGATE)
_CONTROL_TOKEN = re.compile(r"<extra_id_\d+>|<\|\w+\|>")


class Template(Protocol):
    """How one model's conversations are written."""

    @property
    def name(self) -> str:
        """The value of `conv_template` in a checkpoint's config."""

    @property
    def end_markers(self) -> tuple[str, ...]:
        """Texts that end an answer, besides the tokenizer's end of sequence."""

    @property
    def uses_surrogates(self) -> bool:
        """Whether `<extra_id_6>`, `<extra_id_7>` and patch tokens become the ids 1, 2 and 0."""

    @property
    def required_tokens(self) -> tuple[str, ...]:
        """Spellings that must be single tokens, or the model reads something it never saw."""

    def render(self, user_text: str) -> str:
        """The whole prompt; `user_text` already holds its media tag."""

    def clean(self, generated_text: str) -> str:
        """The answer as a reader wants it: no end marker, no surrounding white space."""


def without_end_markers(generated_text: str, end_markers: Sequence[str]) -> str:
    """`generated_text` without end markers at its end and white space around it.

    Markers are removed as whole suffixes. (NeMo strips their characters one by one, which turns "a
    red car" into "red car", or looks for the prompt's last words in the full text, which answers
    with the whole prompt when the model skips the space after them.)
    """
    text = generated_text.rstrip()
    while (marker := next((m for m in end_markers if text.endswith(m)), None)) is not None:
        text = text.removesuffix(marker).rstrip()
    return text.lstrip()


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """One of NeMo's conversation formats: fixed text around the user's.

    Attributes:
        prefix: everything before the user's text.
        suffix: everything after it, up to where the answer begins.
    """

    name: str
    prefix: str
    suffix: str
    end_markers: tuple[str, ...]
    uses_surrogates: bool = False

    @property
    def required_tokens(self) -> tuple[str, ...]:
        # <<SYS>> and [INST] are ordinary text.
        return tuple(dict.fromkeys(_CONTROL_TOKEN.findall(self.prefix + self.suffix)))

    def render(self, user_text: str) -> str:
        return f"{self.prefix}{user_text}{self.suffix}"

    def clean(self, generated_text: str) -> str:
        return without_end_markers(generated_text, self.end_markers)


def _all_templates() -> Iterator[PromptTemplate]:
    """NeMo's table. v2.0.0rc0 has the first five, r2.0.0rc1 all but yi_34b, v2.0.0 all."""
    for name in ("nvgpt", "nv_steerlm"):
        yield PromptTemplate(
            name,
            f"<extra_id_0>System\n{_LLAVA_SYSTEM}\n\n<extra_id_1>User\n",
            f"\n<extra_id_1>Assistant\n<extra_id_2>{STEERLM_LABELS}\n",
            end_markers=("<extra_id_1>", *_SURROGATE_ENDS),
        )
    yield PromptTemplate(
        "nv_dpo",
        "<extra_id_0>System\n\n<extra_id_1>User\n",
        "\n<extra_id_1>Assistant\n",
        end_markers=("<extra_id_1>", *_SURROGATE_ENDS),
    )
    yield PromptTemplate(
        "llama_2",
        f" [INST] <<SYS>>\n{_VISUAL_SYSTEM}\n<</SYS>>\n\n",
        " [/INST]",
        end_markers=_SURROGATE_ENDS,
        uses_surrogates=True,
    )
    yield PromptTemplate(
        "v1",
        f"{_LLAVA_SYSTEM} USER: ",
        " ASSISTANT:",
        end_markers=_SURROGATE_ENDS,
        uses_surrogates=True,
    )
    yield PromptTemplate(
        "llama_3",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"{_VISUAL_SYSTEM}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        end_markers=("<|eot_id|>", "<|end_of_text|>"),
    )
    yield PromptTemplate(
        "mistral",
        f"{BOS_SURROGATE} [INST] ",
        " [/INST]",
        end_markers=_SURROGATE_ENDS,
        uses_surrogates=True,
    )
    yield PromptTemplate(
        "yi_34b",
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        end_markers=("<|im_end|>", "<|endoftext|>"),
    )


_TEMPLATES: Final[Mapping[str, PromptTemplate]] = MappingProxyType(
    {template.name: template for template in _all_templates()}
)


def get_template(name: str) -> PromptTemplate:
    """The template of that name.

    Raises:
        ConfigError: UNSUPPORTED_MODEL, unknown name (`plain` and `interleaved` are for training
            only); the message lists the known ones.
    """
    try:
        return _TEMPLATES[name]
    except KeyError:
        known = ", ".join(sorted(_TEMPLATES))
        raise ConfigError(
            f"unknown prompt template {name!r}; known: {known}", reason=Reason.UNSUPPORTED_MODEL
        ) from None


def add_media_tag(text: str, media_type: MediaType, insert: InsertMedia | None) -> str:
    """The user's text with the media tag before it, behind it or as it is; no separator.

    Raises:
        ConfigError: `insert` is no side.
    """
    tag = MEDIA_TAGS[media_type]
    match insert:
        case "left":
            return tag + text
        case "right":
            return text + tag
        case None:
            return text
    raise ConfigError(f"insert_media_token must be left, right or null, not {insert!r}")


def insert_media(text: str, media_type: MediaType, insert: InsertMedia | None) -> str:
    """Put the media tag into the user's text: before it, behind it, or where it already stands.

    No separator is added, but every `<image>` tag is followed by a newline and `<video>` by none:
    that is how the reference builds its prompts.

    Raises:
        RowError: MEDIA_TOKEN_CONFLICT, the text does not end up with exactly one tag of the media
            type and none of the other. The reference would answer such a row without looking.
    """
    tag = MEDIA_TAGS[media_type]
    text = add_media_tag(text, media_type, insert)
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
    rendered: str, markers: MediaMarkers, num_media_tokens: int, use_im_start_end: bool = False
) -> str:
    """The rendered prompt with each tag written out as the reference's placeholder tokens.

    With `use_im_start_end` the markers come on top of the `num_media_tokens` patches; without it
    (the default everywhere) the first and the last feature take the markers' places, so two
    patches fewer are written.
    """
    patches = markers.patch * num_patch_tokens(num_media_tokens, use_im_start_end)
    span = f"{markers.start}{patches}{markers.end}"
    for tag in MEDIA_TAGS.values():
        rendered = rendered.replace(tag, span)
    return rendered
