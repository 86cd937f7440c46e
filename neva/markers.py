"""The tokens that mark the media's place in a NeMo checkpoint's prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class MediaMarkers:
    """Spellings of the three tokens; a patch token stands for one visual token."""

    start: str
    patch: str
    end: str


EXTRA_ID_MARKERS: Final = MediaMarkers("<extra_id_4>", "<extra_id_3>", "<extra_id_5>")
LLAMA_3_MARKERS: Final = MediaMarkers(
    "<|reserved_special_token_4|>", "<|reserved_special_token_3|>", "<|reserved_special_token_5|>"
)

BOS_SURROGATE: Final = "<extra_id_6>"
EOS_SURROGATE: Final = "<extra_id_7>"


def markers_for(model_type: str) -> MediaMarkers:
    """The markers of a checkpoint by its `mm_cfg.llm.model_type` (NeMo r2.0.0rc1)."""
    return LLAMA_3_MARKERS if model_type == "llama_3" else EXTRA_ID_MARKERS
