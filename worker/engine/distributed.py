"""The process groups of an engine: one for tensors, one for commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from worker.engine.device import collective_backend
from worker.engine.megatron_api import parallel_state

# A rank may wait for work for days. A peer that dies closes its connection, which ends the wait.
_PATIENCE = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's place among the engine's processes.

    Attributes:
        tensor_group: collectives over tensors of the compute device.
        control_group: gloo, whatever the compute device is: commands and flags.
    """

    rank: int
    size: int
    device: torch.device
    tensor_group: dist.ProcessGroup
    control_group: dist.ProcessGroup


def join(rank: int, size: int, device: torch.device, rendezvous_file: Path) -> Ranks:
    """Meet the other ranks (blocks until all have come) and set megatron's groups up."""
    store = dist.FileStore(str(rendezvous_file), size)  # type: ignore[attr-defined]
    dist.init_process_group(
        collective_backend(device), store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    parallel_state.initialize_model_parallel(size, create_gloo_process_groups=False)
    control_group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Ranks(
        rank=rank,
        size=size,
        device=device,
        tensor_group=parallel_state.get_tensor_model_parallel_group(),
        control_group=control_group,
    )


def leave() -> None:
    """Undo `join`."""
    parallel_state.destroy_model_parallel()
    dist.destroy_process_group()


def gather_all(tensor: torch.Tensor, group: dist.ProcessGroup) -> list[torch.Tensor]:
    """Every rank's tensor, by rank; all must have the same shape."""
    if group.size() == 1:
        return [tensor]
    tensor = tensor.contiguous()
    parts = [torch.empty_like(tensor) for _ in range(group.size())]
    dist.all_gather(parts, tensor, group=group)
    return parts


def first_error(message: str | None, ranks: Ranks) -> str | None:
    """The lowest rank's error if any rank has one, equal on all ranks; None if none has."""
    if ranks.size == 1:
        return message
    flag = torch.tensor([message is not None], dtype=torch.int32)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=ranks.control_group)
    if not int(flag):
        return None
    messages: list[str | None] = [None] * ranks.size
    dist.all_gather_object(messages, message, group=ranks.control_group)
    return next(m for m in messages if m is not None)
