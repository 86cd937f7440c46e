"""From frames to embeddings: the CLIP tower and the projector, frames divided among the ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from neva.errors import RowError
from neva.reasons import Reason
from worker.checkpoint.base import Weights
from worker.engine.architecture import LlavaShape, VisionShape
from worker.engine.distributed import Ranks, first_error, gather_all
from worker.engine.projector import Projector
from worker.engine.protocol import MediaRef


class VisionEncoder:
    """Tower and projector, whole on every rank; `encode` is collective."""

    def __init__(
        self, shape: VisionShape, tower: CLIPVisionModel, projector: Projector, ranks: Ranks
    ) -> None:
        """tower: `shape.num_layers_used` layers of it, so it ends where the features are."""
        self.shape = shape
        self.num_passes = 0
        self._tower = tower
        self._projector = projector
        self._ranks = ranks
        self._hidden_size = projector.out_features
        self._dtype = projector.linear_1.weight.dtype

    @torch.inference_mode()
    def encode(self, media: MediaRef) -> torch.Tensor:
        """The embeddings of all frames, equal on all ranks: (frames × tokens_per_frame, hidden).

        Each rank reads and computes its own share of the frames.

        Raises:
            RowError: MEDIA_UNREADABLE, retryable, on all ranks when any rank can't read its share.
        """
        num_frames = media.shape[0]
        share = -(-num_frames // self._ranks.size)
        start = min(num_frames, self._ranks.rank * share)
        pixels, problem = _read_frames(media, start, min(num_frames, start + share))
        problem = first_error(problem, self._ranks)
        if problem is not None or pixels is None:
            raise RowError(problem or "", reason=Reason.MEDIA_UNREADABLE, retryable=True)
        self.num_passes += 1
        # The last rank's share may be short: the rest stays zero and is cut off below.
        mine = torch.zeros(
            (share, self.shape.tokens_per_frame, self._hidden_size),
            dtype=self._dtype,
            device=self._ranks.device,
        )
        if len(pixels):
            mine[: len(pixels)] = self._features(torch.from_numpy(pixels))
        features = torch.cat(gather_all(mine, self._ranks.tensor_group))[:num_frames]
        return features.flatten(0, 1)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (frames, 3, H, W) -> (frames, tokens_per_frame, hidden)"""
        pixels = pixels.to(device=self._ranks.device, dtype=self._dtype)
        # The tower ends with the layer that the features are taken from; no final norm.
        hidden = self._tower(pixel_values=pixels).last_hidden_state
        projected: torch.Tensor = self._projector(hidden[:, 1:] if self.shape.drops_cls else hidden)
        return projected


def _read_frames(media: MediaRef, start: int, stop: int) -> tuple[np.ndarray | None, str | None]:
    """Frames start … stop-1 of a pixel file, or why they can't be read."""
    path = Path(media.path)
    num_bytes = int(np.prod(media.shape)) * np.dtype(np.float32).itemsize
    try:
        found_bytes = path.stat().st_size
        if found_bytes != num_bytes:
            return None, f"the pixel file {path} has {found_bytes} bytes, expected {num_bytes}"
        pixels = np.memmap(path, dtype=np.float32, mode="r", shape=media.shape)
        return np.array(pixels[start:stop]), None
    except OSError as error:
        return None, f"the pixel file {path} can't be read: {error.strerror}"


def build_vision_encoder(
    shape: LlavaShape, weights: Weights, dtype: torch.dtype, ranks: Ranks
) -> VisionEncoder:
    """Tower and projector with their weights, on the rank's device."""
    vision = shape.vision
    used = {**vision.clip.to_dict(), "num_hidden_layers": vision.num_layers_used}
    tower = _load_tower(CLIPVisionConfig.from_dict(used), weights, dtype, ranks.device)
    projector = Projector(
        vision.projector, vision.hidden_size, shape.language.hidden_size, vision.projector_bias
    )
    _load(projector, "multi_modal_projector.", weights, dtype, ranks.device)
    return VisionEncoder(vision, tower, projector, ranks)


def _load_tower(
    config: CLIPVisionConfig, weights: Weights, dtype: torch.dtype, device: torch.device
) -> CLIPVisionModel:
    with torch.device("meta"):  # no time spent on random weights
        tower = CLIPVisionModel(config)
    buffers = [name for name, _ in tower.named_buffers()]
    if buffers != ["embeddings.position_ids"]:
        raise RuntimeError(f"this version of transformers has other buffers in CLIP: {buffers}")
    tower.to_empty(device=device)
    position_ids = tower.embeddings.position_ids
    position_ids.copy_(torch.arange(position_ids.size(-1)).expand(position_ids.shape))
    _load(tower, "vision_tower.", weights, dtype, device)
    return tower


def _load(
    module: nn.Module,
    prefix: str,
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    module.to(device=device, dtype=dtype).eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        parameter.copy_(weights.read(prefix + name))
