"""The process groups of an engine: two for tensors, one for commands."""

from __future__ import annotations

from collections.abc import Sequence
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

    The ranks of one pipeline stage follow each other: rank = stage x tensor_size + tensor_rank.

    Attributes:
        rank, size: among all ranks of the engine.
        tensor_size: ranks that share each layer.
        all_group: all ranks; tensors of the compute device.
        tensor_group: the ranks of this stage; tensors of the compute device.
        control_group: all ranks; gloo, whatever the compute device is: commands and flags.
    """

    rank: int
    size: int
    tensor_size: int
    device: torch.device
    all_group: dist.ProcessGroup
    tensor_group: dist.ProcessGroup
    control_group: dist.ProcessGroup

    @property
    def tensor_rank(self) -> int:
        """Place within the stage."""
        return self.rank % self.tensor_size

    @property
    def stage(self) -> int:
        return self.rank // self.tensor_size

    @property
    def num_stages(self) -> int:
        return self.size // self.tensor_size


def join(
    rank: int, size: int, device: torch.device, rendezvous_file: Path, num_stages: int = 1
) -> Ranks:
    """Meet the other ranks (blocks until all have come) and set megatron's groups up.

    size: of all stages together, a multiple of `num_stages`.
    """
    store = dist.FileStore(str(rendezvous_file), size)  # type: ignore[attr-defined]
    dist.init_process_group(
        collective_backend(device), store=store, rank=rank, world_size=size, timeout=_PATIENCE
    )
    tensor_size = size // num_stages
    # To megatron each stage is a smaller model (`build_gpt_model`): it need not know of stages.
    parallel_state.initialize_model_parallel(tensor_size, create_gloo_process_groups=False)
    control_group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Ranks(
        rank=rank,
        size=size,
        tensor_size=tensor_size,
        device=device,
        all_group=dist.distributed_c10d._get_default_group(),
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


def first_errors(messages: Sequence[str | None], ranks: Ranks) -> list[str | None]:
    """For each place the lowest rank's message if any rank has one, equal on all ranks."""
    if ranks.size == 1:
        return list(messages)
    flag = torch.tensor([any(m is not None for m in messages)], dtype=torch.int32)
    dist.all_reduce(flag, op=dist.ReduceOp.MAX, group=ranks.control_group)
    if not int(flag):
        return [None] * len(messages)
    of_ranks: list[Sequence[str | None]] = [()] * ranks.size
    dist.all_gather_object(of_ranks, list(messages), group=ranks.control_group)
    return [
        next((m for m in column if m is not None), None) for column in zip(*of_ranks, strict=True)
    ]


def everyone_is_here(ranks: Ranks) -> None:
    """Return when all ranks have come here, without burning CPU."""
    if ranks.size > 1:
        dist.barrier(group=ranks.control_group)


def smallest(value: int, ranks: Ranks) -> int:
    """The smallest of the ranks' values, on all ranks."""
    if ranks.size == 1:
        return value
    tensor = torch.tensor([value])
    dist.all_reduce(tensor, op=dist.ReduceOp.MIN, group=ranks.control_group)
    return int(tensor)
