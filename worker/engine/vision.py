"""From frames to embeddings: the vision tower and the projector, frames divided among the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from neva.errors import RowError
from neva.reasons import Reason
from worker.checkpoint.base import Weights
from worker.engine.architecture import LlavaShape, VisionShape
from worker.engine.device import to_device
from worker.engine.distributed import Ranks, first_errors, gather_all
from worker.engine.progress import Progress
from worker.engine.projector import Projector
from worker.engine.protocol import MediaRef
from worker.engine.tower import Tower, empty_tower, last_layer


class VisionEncoder:
    """Tower and projector, whole on every rank; `encode` is collective."""

    def __init__(
        self,
        shape: VisionShape,
        tower: Tower,
        projector: Projector,
        ranks: Ranks,
        progress: Progress,
    ) -> None:
        """tower: `shape.num_layers_used` layers of it, so it ends where the features are."""
        self.shape = shape
        self.num_passes = 0  # of a video or image through the tower
        self._tower = tower
        self._projector = projector
        self._ranks = ranks
        self._progress = progress
        self._hidden_size = projector.out_features
        self._dtype = projector.linear_1.weight.dtype

    @torch.inference_mode()
    def encode(self, media: Sequence[MediaRef]) -> list[torch.Tensor | RowError]:
        """The embeddings of each media, equal on all ranks: (frames × tokens_per_frame, hidden).

        Behind the first pipeline stage only their shape (device meta): nobody needs them there.

        All frames of all media go through the tower together; each rank reads and computes its
        own share of them. Media that any rank can't read get a RowError instead:
        MEDIA_UNREADABLE, retryable, on all ranks.
        """
        results: dict[int, torch.Tensor | RowError] = {}
        wanted = list(range(len(media)))
        while wanted:
            frames = [(i, frame) for i in wanted for frame in range(media[i].shape[0])]
            share = -(-len(frames) // self._ranks.size)
            mine = frames[self._ranks.rank * share :][:share]
            pixels, problems = _read_share(media, mine)
            agreed = first_errors([problems.get(i) for i in wanted], self._ranks)
            if all(problem is None for problem in agreed):
                features = self._encode(pixels, share)[: len(frames)]
                if self._ranks.stage:
                    features = features.to("meta")
                for i, part in zip(
                    wanted, torch.split(features, [media[i].shape[0] for i in wanted]), strict=True
                ):
                    # A copy: what stays in a cache must not keep the other videos alive.
                    results[i] = part.flatten(0, 1).clone()
                self.num_passes += len(wanted)
                break
            for i, problem in zip(wanted, agreed, strict=True):
                if problem is not None:
                    results[i] = RowError(problem, reason=Reason.MEDIA_UNREADABLE, retryable=True)
            wanted = [i for i in wanted if i not in results]  # shared out anew
        return [results[i] for i in range(len(media))]

    def _encode(self, pixels: Sequence[np.ndarray], share: int) -> torch.Tensor:
        """All ranks' frames: (ranks × share, tokens_per_frame, hidden); short shares end in 0."""
        mine = torch.zeros(
            (share, self.shape.tokens_per_frame, self._hidden_size),
            dtype=self._dtype,
            device=self._ranks.device,
        )
        if pixels:
            read = torch.from_numpy(np.concatenate(pixels))
            mine[: len(read)] = self._features(read)
        self._progress.tick()
        return torch.cat(gather_all(mine, self._ranks.all_group))

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """pixels (frames, 3, H, W) -> (frames, tokens_per_frame, hidden)"""
        pixels = to_device(pixels, self._ranks.device, self._dtype)
        # The tower ends with the layer that the features are taken from.
        hidden = last_layer(self._tower, pixels)
        projected: torch.Tensor = self._projector(hidden[:, self.shape.num_dropped :])
        return projected


def _read_share(
    media: Sequence[MediaRef], frames: Sequence[tuple[int, int]]
) -> tuple[list[np.ndarray], dict[int, str]]:
    """Some (media, frame) places, those of one media together: pixels, and problems by media."""
    pixels: list[np.ndarray] = []
    problems: dict[int, str] = {}
    for i, places in groupby(frames, key=lambda place: place[0]):
        numbers = [frame for _, frame in places]
        read, problem = _read_frames(media[i], numbers[0], numbers[-1] + 1)
        if read is not None:
            pixels.append(read)
        else:
            problems[i] = problem or ""
    return pixels, problems


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
    shape: LlavaShape,
    weights: Weights,
    dtype: torch.dtype,
    ranks: Ranks,
    progress: Progress,
) -> VisionEncoder:
    """Tower and projector with their weights, on the rank's device."""
    vision = shape.vision
    tower = _load_tower(vision, weights, dtype, ranks.device)
    projector = Projector(
        vision.projector, vision.hidden_size, shape.language.hidden_size, vision.projector_bias
    )
    _load(projector, "multi_modal_projector.", weights, dtype, ranks.device)
    return VisionEncoder(vision, tower, projector, ranks, progress)


class _QuickGelu(nn.Module):
    """CLIP's x sigmoid(1.702 x), written over x, which is as large as all the rest of a layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mul_((1.702 * x).sigmoid_())


def _load_tower(
    shape: VisionShape, weights: Weights, dtype: torch.dtype, device: torch.device
) -> Tower:
    tower = empty_tower(shape.used_tower)  # no time spent on random weights
    buffers = [name for name, _ in tower.named_buffers()]
    if buffers != ["embeddings.position_ids"]:
        raise RuntimeError(f"this version of transformers has other buffers in towers: {buffers}")
    for module in tower.modules():
        if isinstance(getattr(module, "activation_fn", None), QuickGELUActivation):
            module.activation_fn = _QuickGelu()
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
