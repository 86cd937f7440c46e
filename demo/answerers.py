"""Ways to get answers out of the demo model, for `demo.accuracy` to compare with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlavaForConditionalGeneration

from neva.model_profile import read_model_profile
from neva.prompting import Prompt
from neva.tokens import Tokenizer


@dataclass(frozen=True, slots=True)
class Row:
    """One question as the engine gets it.

    Attributes:
        pixels: (num_frames, 3, height, width) float32, normalised.
    """

    video: str
    prompt: Prompt
    pixels: NDArray[np.float32]


class Answerer(Protocol):
    def answer(self, rows: Sequence[Row]) -> list[str]:
        """The generated text of each row, in order, before cleaning."""


class TransformersAnswerer:
    """Greedy answers by Hugging Face transformers: the yardstick, one padded batch at a time."""

    def __init__(self, model_dir: Path, max_new_tokens: int = 24) -> None:
        self._profile = read_model_profile(model_dir)
        self._tokenizer = Tokenizer.from_directory(model_dir)
        self._max_new_tokens = max_new_tokens
        self._model = LlavaForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32)

    @torch.no_grad()
    def answer(self, rows: Sequence[Row]) -> list[str]:
        pad_id = self._profile.eos_token_ids[0]
        all_ids = [
            [
                *row.prompt.before_ids,
                *[self._profile.image_token_id] * row.prompt.num_media_tokens,
                *row.prompt.after_ids,
            ]
            for row in rows
        ]
        length = max(len(ids) for ids in all_ids)
        padded = torch.tensor([[pad_id] * (length - len(ids)) + ids for ids in all_ids])
        is_real = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in all_ids])
        generated = self._model.generate(  # type: ignore[misc]  # its own annotations disagree
            input_ids=padded,
            attention_mask=is_real,
            pixel_values=torch.from_numpy(np.concatenate([row.pixels for row in rows])),
            max_new_tokens=self._max_new_tokens,
            do_sample=False,
        )
        return [self._tokenizer.decode(ids) for ids in generated[:, length:].tolist()]
