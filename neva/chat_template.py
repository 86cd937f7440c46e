"""Prompts from a Hugging Face model's own chat template (jinja), in a sandbox.

The template writes the roles; the media stay one literal tag inside the user's text, so that
`insert_media_token` means the same with every model. What a template may see is fixed: the one
message and the tokenizer's special texts. There is no clock in it, because a prompt is a function
of the row and the model alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from neva.errors import ConfigError, RowError
from neva.reasons import Reason
from neva.templates import without_end_markers

CHAT_TEMPLATE = "chat_template"
_PROBE = "\u00abthe user's text <video>\u00bb"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A model's own template.

    Attributes:
        source: the jinja text.
        special_texts: what the template may name: bos_token, eos_token and the like.
        end_markers: texts that end an answer.
    """

    source: str
    special_texts: Mapping[str, str] = field(default_factory=dict)
    end_markers: tuple[str, ...] = ()
    _compiled: jinja2.Template = field(init=False, repr=False, compare=False)
    _takes_list: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compile, and find out how the template wants the user's text.

        Raises:
            ConfigError: UNSUPPORTED_MODEL, it can't be rendered or loses the user's text.
        """
        try:
            compiled = _environment().from_string(self.source)
        except jinja2.TemplateError as error:
            raise _unusable(str(error)) from error
        object.__setattr__(self, "_compiled", compiled)
        problems = []
        # Templates of text models take a message's content as text, others as a list of parts.
        for takes_list in (False, True):
            object.__setattr__(self, "_takes_list", takes_list)
            try:
                if self.render(_PROBE).count(_PROBE) == 1:
                    return
            except RowError as error:
                problems.append(error.message)
        raise _unusable(problems[0] if problems else "it does not repeat the user's text once")

    @property
    def name(self) -> str:
        return CHAT_TEMPLATE

    @property
    def uses_surrogates(self) -> bool:
        return False

    @property
    def required_tokens(self) -> tuple[str, ...]:
        return tuple(text for text in self.special_texts.values() if text in self.render(_PROBE))

    def render(self, user_text: str) -> str:
        """The whole prompt.

        Raises:
            RowError: MEDIA_TOKEN_CONFLICT, the template refuses this text.
        """
        content: Any = [{"type": "text", "text": user_text}] if self._takes_list else user_text
        try:
            return self._compiled.render(
                messages=[{"role": "user", "content": content}],
                add_generation_prompt=True,
                **self.special_texts,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            # Whatever a template's expressions lead to.
            raise RowError(
                f"the model's chat template does not take the text: {error}",
                reason=Reason.MEDIA_TOKEN_CONFLICT,
            ) from error

    def clean(self, generated_text: str) -> str:
        return without_end_markers(generated_text, self.end_markers)


def _environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for (transformers' documentation)."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _raise_exception
    # jinja's own filter escapes for HTML.
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _unusable(why: str) -> ConfigError:
    return ConfigError(
        f"the model's own chat template can't be used: {why}", reason=Reason.UNSUPPORTED_MODEL
    )
