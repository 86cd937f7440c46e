"""The projectors of LLaVA and NeVA: from tower features to the language model's embeddings."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import gelu, pad

from neva.nemo_config import ProjectorKind

_BLOCK = 2  # patches a side that mlp_downsample merges


class Projector(nn.Module):
    """(frames, tokens, tower hidden) -> (frames, tokens', model hidden), exact GELU.

    `linear` and `mlp2x_gelu` keep the tokens; `mlp_downsample` has a quarter of them.
    """

    def __init__(
        self, kind: ProjectorKind, in_features: int, out_features: int, bias: bool
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self._downsamples = kind == "mlp_downsample"
        if self._downsamples:
            in_features *= _BLOCK**2
            self.norm = nn.LayerNorm(in_features)
        self.linear_1 = nn.Linear(in_features, out_features, bias=bias)
        self.linear_2 = (
            None if kind == "linear" else nn.Linear(out_features, out_features, bias=bias)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._downsamples:
            x = self.norm(merge_blocks(x))
        projected: torch.Tensor = self.linear_1(x)
        return projected if self.linear_2 is None else self.linear_2(gelu(projected))


def merge_blocks(features: torch.Tensor) -> torch.Tensor:
    """Merge blocks of 2 x 2 patches, as NeMo's and VILA's mlp_downsample order them.

    features: (frames, side², channels), row by row. Odd sides are padded with zeros at the right
    and the bottom. Returns (frames, blocks, 4 x channels): in a block top left, top right, bottom
    left, bottom right; the blocks column by column.
    """
    frames, num_patches, channels = features.shape
    side = round(num_patches**0.5)
    grid = features.reshape(frames, side, side, channels)
    grid = pad(grid, (0, 0, 0, side % _BLOCK, 0, side % _BLOCK))
    num_blocks = grid.size(1) // _BLOCK
    # (frames, block row, row, block column, column, channels)
    blocks = grid.reshape(frames, num_blocks, _BLOCK, num_blocks, _BLOCK, channels)
    return blocks.permute(0, 3, 1, 2, 4, 5).reshape(frames, num_blocks**2, -1)
