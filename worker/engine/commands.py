"""How rank 0's commands reach the other ranks: one broadcast before every step."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from worker.engine.distributed import Ranks, everyone_is_here
from worker.engine.protocol import GenerateRequest


@dataclass(frozen=True, slots=True)
class NewRow:
    """An accepted request under the name that all ranks use for it."""

    ticket: int
    request: GenerateRequest


@dataclass(frozen=True, slots=True)
class Commands:
    """What changed since the last step, in order: first rows to drop, then rows to add."""

    drop: tuple[int, ...] = ()
    add: tuple[NewRow, ...] = ()


_commands: TypeAdapter[Commands] = TypeAdapter(Commands)


class CommandChannel:
    """Rank 0 sends, the others receive, in lockstep.

    Two steps: the number of bytes, then, if there are any, the bytes. Between steps without news
    that is one 8-byte message. A receiver waits without burning CPU until rank 0 sends.
    """

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def send(self, commands: Commands) -> None:
        """Rank 0 only. Raises RuntimeError when another rank is gone."""
        if self._ranks.size == 1:
            return
        payload = b"" if commands == Commands() else orjson.dumps(commands)
        self._broadcast(torch.tensor([len(payload)]))
        if payload:
            self._broadcast(torch.frombuffer(bytearray(payload), dtype=torch.uint8))

    def receive(self) -> Commands:
        """All ranks but 0. Raises RuntimeError when rank 0 is gone."""
        num_bytes = torch.zeros(1, dtype=torch.long)
        self._broadcast(num_bytes)
        if not int(num_bytes):
            return Commands()
        payload = torch.empty(int(num_bytes), dtype=torch.uint8)
        self._broadcast(payload)
        return _commands.validate_json(payload.numpy().tobytes())

    def confirm(self) -> None:
        """All ranks: return when all have come here; a broadcast alone needs no receiver yet."""
        everyone_is_here(self._ranks)

    def _broadcast(self, tensor: torch.Tensor) -> None:
        dist.broadcast(tensor, group_src=0, group=self._ranks.control_group)
