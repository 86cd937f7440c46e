"""The one place where a device is chosen; everything else takes it from its tensors."""

from __future__ import annotations

import torch

from neva.errors import ConfigError
from worker.engine.launch import DeviceKind, Precision

DTYPE_OF_PRECISION: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def choose_device(kind: DeviceKind, rank: int, num_ranks: int) -> torch.device:
    """The device of one rank; all ranks of an engine are on one machine.

    Raises:
        ConfigError: CUDA was asked for, or is there, but not for every rank.
    """
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    num_gpus = torch.cuda.device_count()
    if num_gpus < num_ranks:
        raise ConfigError(
            f"{num_ranks} ranks (tensor x pipeline parallel size) need a GPU each: {num_gpus} here"
        )
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = False  # the tower's convolution: fp32 means fp32
    return device


def to_device(pixels: torch.Tensor, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """A CPU tensor on the device, converted there; pinned on its way to a GPU, which halves it."""
    if device.type == "cuda":
        pixels = pixels.pin_memory()
    return pixels.to(device=device, non_blocking=True).to(dtype)


def collective_backend(device: torch.device) -> str:
    """The torch.distributed backend for tensors of this device."""
    return "nccl" if device.type == "cuda" else "gloo"
