"""The vision towers that can be run, CLIP's and SigLIP's, as transformers has them."""

from __future__ import annotations

import torch
from transformers import CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from worker.engine.architecture import TowerConfig

Tower = CLIPVisionModel | SiglipVisionModel


def empty_tower(config: TowerConfig) -> Tower:
    """A tower without memory, for its shapes or to be filled."""
    tower: Tower
    with torch.device("meta"):
        if isinstance(config, SiglipVisionConfig):
            tower = SiglipVisionModel(config)
        else:
            tower = CLIPVisionModel(config)
    return tower


def last_layer(tower: Tower, pixels: torch.Tensor) -> torch.Tensor:
    """(frames, 3, H, W) -> what the last layer gives, (frames, tokens, hidden).

    No final norm: CLIP's output has none, SigLIP's would.
    """
    hidden: torch.Tensor
    if isinstance(tower, SiglipVisionModel):
        embedded = tower.embeddings(pixels)
        hidden = tower.encoder(inputs_embeds=embedded).last_hidden_state
    else:
        hidden = tower(pixel_values=pixels).last_hidden_state
    return hidden
