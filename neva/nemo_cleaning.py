"""How the original cut an answer out of the generated text, bug by bug (`compat.cleanResponse`).

For comparing with files that the original wrote, and for nothing else: it loses letters of answers
and returns whole prompts. Rules of NeMo v2.0.0rc0 and of r2.0.0rc1 (v2.0.0 for yi_34b).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from neva.errors import ConfigError
from neva.model_profile import ModelProfile
from neva.prompting import UNK_ID, Prompt, marker_ids
from neva.templates import MEDIA_TAGS, MediaType, Template
from neva.tokens import Tokenizer

Release = Literal["nemo-rc0", "nemo-rc1"]

_UNKNOWN_TEXT = " \u2047 "  # sentencepiece's text of the unknown piece
_LABELS = re.compile(r"<extra_id_2>quality:.*\n")
_TURN = "<extra_id_1>"


def nemo_full_text(
    prompt: Prompt,
    generated_ids: Sequence[int],
    media_type: MediaType,
    profile: ModelProfile,
    template: Template,
    tokenizer: Tokenizer,
) -> str:
    """Prompt and answer decoded in one piece, with the media written as their tag.

    Args:
        generated_ids: with the ids that ended the answer: the original keeps the stop token.
    """
    if profile.markers is None:
        span: tuple[int, ...] = (profile.image_token_id,)
        pattern = re.escape(tokenizer.token_text(profile.image_token_id) or "")
    else:
        markers = profile.markers
        start_id, patch_id, end_id = marker_ids(markers, tokenizer)
        patch_id = UNK_ID if template.uses_surrogates else patch_id
        # One patch stands for all: the pattern takes any number of them.
        span = (patch_id,) if profile.use_im_start_end else (start_id, patch_id, end_id)
        start, patch, end = map(re.escape, (markers.start, markers.patch, markers.end))
        pattern = f"{start}(?:{patch}|{re.escape(_UNKNOWN_TEXT)})+{end}"
    ids = [*prompt.before_ids, *span, *prompt.after_ids, *generated_ids]
    text = tokenizer.decode(ids, skip_special_tokens=False)
    return re.sub(pattern, lambda _: MEDIA_TAGS[media_type], text)


def nemo_response(full_text: str, template: str, release: Release) -> str:
    """The original's "clean response"; where it died for want of a landmark, the whole text.

    Raises:
        ConfigError: it has no rule for the template.
    """
    match template:
        case "nvgpt" | "nv_steerlm":
            behind_labels = max((match.end() for match in _LABELS.finditer(full_text)), default=0)
            text = full_text[behind_labels:].strip(_TURN)
        case "nv_dpo" if release == "nemo-rc0":
            text = ["", *full_text.split(_TURN)][-2][len("Assistant\n") :]
        case "nv_dpo":
            text = _behind_last(full_text, f"{_TURN}Assistant\n").strip(_TURN)
        case "llama_2":
            text = _behind_last(full_text, "[/INST] ")
        case "v1":
            text = _behind_last(full_text, "ASSISTANT: ")
        case "llama_3":
            text = _behind_last(full_text, "assistant<|end_header_id|>\n\n")
            while text.endswith("<|eot_id|>"):
                text = text.removesuffix("<|eot_id|>")
        case "mistral":
            text = full_text
        case "yi_34b":
            text = _behind_last(full_text, "<|im_start|>assistant\n").strip("<|im_end|>")  # noqa: B005
        case _:
            raise ConfigError(f"the original has no rule for the prompt template {template}")
    return text.strip()


def _behind_last(text: str, landmark: str) -> str:
    """What stands behind the last landmark; without one, everything."""
    return text.rpartition(landmark)[2]
