"""Find what all matrices of a model are quantized by, with one layer in memory at a time.

One process does it, whatever the tensor parallel size: every prompt's embeddings go through layer
after layer, unquantized, each layer read, observed and dropped. So the result does not depend on
how a worker divides its model, and a model that fits its GPUs only when quantized can be
calibrated there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from neva.errors import RowError
from neva.local_model import LocalModel
from neva.rank_split import stage_of
from worker.checkpoint.base import Weights
from worker.checkpoint.open import open_checkpoint
from worker.engine.architecture import LlavaShape
from worker.engine.attention import RotaryTable, rotate
from worker.engine.distributed import Ranks
from worker.engine.language_model import build_gpt_model
from worker.engine.language_weights import load_language_model
from worker.engine.layers import run_layers
from worker.engine.progress import Progress
from worker.engine.protocol import MediaRef
from worker.engine.quantization.method import Method
from worker.engine.quantization.table import Findings
from worker.engine.vision import VisionEncoder, build_vision_encoder


@dataclass(frozen=True, slots=True)
class CalibrationPrompt:
    """A prompt as the engine sees it: ids around a video or image."""

    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    media: MediaRef


@torch.inference_mode()
def calibrate(
    model: LocalModel,
    dtype: torch.dtype,
    prompts: Sequence[CalibrationPrompt],
    method: Method,
    ranks: Ranks,
    tell: Callable[[int], None],
) -> Findings:
    """Findings by layer and matrix.

    Args:
        ranks: of one process alone.
        tell: takes each layer that is done.

    Raises:
        ConfigError: the checkpoint can't be used. RowError: a pixel file can't be read.
    """
    findings = {}
    with open_checkpoint(model) as checkpoint:
        shape = checkpoint.shape
        weights = _OneLayer(checkpoint.weights)
        one_layer, whole = replace(shape.language, num_layers=1), stage_of(1, 0, 1)
        rotary = RotaryTable(
            torch.tensor(one_layer.inverse_frequencies, device=ranks.device),
            one_layer.rotary_scaling,
            one_layer.context_tokens,
        )
        hidden: list[torch.Tensor] = []
        for layer in range(shape.language.num_layers):
            weights.layer = layer
            gpt = build_gpt_model(one_layer, 1, dtype, whole)
            load_language_model(gpt, weights, one_layer, 0, 1, whole)
            gpt = gpt.to(ranks.device)
            if not layer:
                hidden = _embeddings(gpt, shape, weights, dtype, prompts, ranks)
            num_tokens = sum(row.size(0) for row in hidden)
            hidden, found = method.look_at(gpt, num_tokens, partial(_run, gpt, hidden, rotary))
            findings.update({(layer, name): of_matrix for name, of_matrix in found.items()})
            tell(layer)
    return findings


def _run(gpt: Any, hidden: list[torch.Tensor], rotary: RotaryTable) -> list[torch.Tensor]:
    progress = Progress()
    # A copy: the layer overwrites what it is given.
    return [
        run_layers(gpt.decoder, row.clone(), CausalContext(rotary, row), progress) for row in hidden
    ]


class CausalContext:
    """One whole prompt that nothing is kept of."""

    def __init__(self, rotary: RotaryTable, hidden: torch.Tensor) -> None:
        """hidden: (tokens, 1, hidden)"""
        places = torch.arange(hidden.size(0), device=hidden.device)
        self._cos, self._sin = rotary.at(places, hidden.dtype)

    def kept(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        return hidden

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        """query: (tokens, heads, dim); returns (tokens, heads x dim)."""
        query, key, value = (states.transpose(0, 1)[None] for states in (query, key, value))
        query, key = rotate(query, self._cos, self._sin), rotate(key, self._cos, self._sin)
        attended = scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        return attended[0].transpose(0, 1).flatten(1)


class _OneLayer:
    """A model's weights as those of a model with one layer: that one, whichever is asked for now.

    What all layers share is read once.
    """

    def __init__(self, weights: Weights) -> None:
        self.layer = 0
        self._weights = weights
        self._shared: dict[str, torch.Tensor] = {}

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        first = "language_model.layers.0."
        if name.startswith(first):
            name = f"language_model.layers.{self.layer}.{name.removeprefix(first)}"
            return self._weights.read(name, rows, columns)
        if name not in self._shared:
            self._shared[name] = self._weights.read(name, rows, columns)
        return self._shared[name]


def _embeddings(
    gpt: Any,
    shape: LlavaShape,
    weights: _OneLayer,
    dtype: torch.dtype,
    prompts: Sequence[CalibrationPrompt],
    ranks: Ranks,
) -> list[torch.Tensor]:
    """What the first layer gets of each prompt: (tokens, 1, hidden)."""
    vision = build_vision_encoder(shape, weights, dtype, ranks, Progress())

    def embed(ids: tuple[int, ...]) -> torch.Tensor:
        embeddings: torch.Tensor = gpt.embedding.word_embeddings(
            torch.tensor(ids, dtype=torch.long, device=ranks.device)
        )
        return embeddings

    features: dict[str, torch.Tensor] = {}
    rows = []
    for prompt in prompts:
        key = prompt.media.key
        if key not in features:
            features[key] = _encode(vision, prompt.media)
        parts = (embed(prompt.before_ids), features[key], embed(prompt.after_ids))
        rows.append(torch.cat(parts)[:, None])
    return rows


def _encode(vision: VisionEncoder, media: MediaRef) -> torch.Tensor:
    (features,) = vision.encode([media])
    if isinstance(features, RowError):
        raise features
    return features
