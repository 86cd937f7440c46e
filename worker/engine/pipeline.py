"""What goes from one pipeline stage to the next, and back.

All ranks run the same engine on the same commands, so every rank knows what each pass computes;
only tensors travel. Hidden states go from a rank to the one at its place in the next stage, in the
order of the passes. What the last stage finds out (tokens, flags) goes to everyone, and nobody
goes on before that: so sends and receives pair up in the same order on all ranks. What a rank has
no part in (embeddings behind the first stage, logits before the last) is a meta tensor there,
which has a shape and no content.

While one stage decodes, the others wait. A prefill is cut into parts instead, and a stage computes
the next part while the one behind it has this one. A decoding batch is not cut: half of its rows
read as many weights as all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist

from worker.engine.distributed import Ranks

# Positions of one part of a prefill: enough that the matrices are worth multiplying.
PART_TOKENS = 256


def row_parts(num_rows: int, num_tokens: int, num_stages: int) -> list[slice]:
    """The rows of each pass that `num_rows` pieces of prompts of equal length go through."""
    return _cut(num_rows, num_rows if num_stages == 1 else max(1, PART_TOKENS // num_tokens))


def token_parts(num_tokens: int, num_stages: int) -> list[slice]:
    """The positions of each pass: they follow from the length alone, whatever the neighbours."""
    return _cut(num_tokens, num_tokens if num_stages == 1 else PART_TOKENS)


def _cut(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


class Pipeline:
    """This rank's connections to the stages before and behind it."""

    def __init__(self, ranks: Ranks, dtype: torch.dtype) -> None:
        """dtype: of the hidden states."""
        self.num_stages = ranks.num_stages
        self.is_first = ranks.stage == 0
        self.is_last = ranks.stage == ranks.num_stages - 1
        self._ranks = ranks
        self._dtype = dtype
        # Both must live until the other side has what was sent.
        self._on_their_way: list[tuple[dist.Work | None, torch.Tensor]] = []

    def receive(self, shape: Sequence[int]) -> torch.Tensor:
        """The next hidden states from the stage before. Not for the first stage."""
        hidden = torch.empty(tuple(shape), dtype=self._dtype, device=self._ranks.device)
        source = self._ranks.rank - self._ranks.tensor_size
        dist.recv(hidden, group=self._ranks.all_group, group_src=source)
        return hidden

    def send(self, hidden: torch.Tensor) -> None:
        """Hand hidden states on to the stage behind, without waiting. Not for the last stage."""
        hidden = hidden.contiguous()
        target = self._ranks.rank + self._ranks.tensor_size
        work = dist.isend(hidden, group=self._ranks.all_group, group_dst=target)
        self._on_their_way.append((work, hidden))

    def tell_any(self, flags: torch.Tensor) -> list[bool]:
        """For each place whether any rank of the last stage has a flag there; equal on all ranks.

        flags: bool; those of other stages must be as many.
        """
        flags = flags.to(torch.uint8)
        if self.is_last and self._ranks.tensor_size > 1:
            dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._ranks.tensor_group)
        return [bool(flag) for flag in self.tell(flags.cpu()).tolist()]

    def tell(self, values: torch.Tensor) -> torch.Tensor:
        """The last stage's values on all ranks; theirs must have the same shape and type, on CPU.

        Everything sent before has arrived by then.
        """
        if self.num_stages == 1:
            return values
        root = self._ranks.size - self._ranks.tensor_size
        dist.broadcast(values, group_src=root, group=self._ranks.control_group)
        for work, _ in self._on_their_way:
            if work is not None:
                work.wait()
        self._on_their_way.clear()
        return values
