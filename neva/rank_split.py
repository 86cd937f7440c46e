"""How a model is divided: layers among stages, heads and MLP among tensor-parallel ranks.

Any numbers do, as long as every stage has a layer. Where tensor-parallel ranks can't share evenly,
heads and MLP columns of zeros fill up: zero queries, keys, values and zero columns in the output
projections add nothing to any sum, so the result is the same; they only cost their share of time
and memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from neva.errors import ConfigError


class Divisible(Protocol):
    """What of a language model is divided."""

    @property
    def num_heads(self) -> int: ...
    @property
    def num_kv_heads(self) -> int: ...
    @property
    def ffn_size(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RankSplit:
    """Sizes over all ranks, each a multiple of `size`.

    Attributes:
        num_heads, num_kv_heads, ffn_size: with what was added.
        copies: ranks that hold the same kv head, where there are fewer kv heads than ranks.
    """

    size: int
    num_heads: int
    num_kv_heads: int
    ffn_size: int
    copies: int

    @property
    def local_heads(self) -> int:
        return self.num_heads // self.size

    @property
    def local_kv_heads(self) -> int:
        return self.num_kv_heads // self.size

    def heads(self, rank: int) -> range:
        """This rank's query heads; those past the model's own are zeros."""
        return range(rank * self.local_heads, (rank + 1) * self.local_heads)

    def kv_heads(self, rank: int) -> range:
        """This rank's kv heads; those past the model's own are zeros."""
        first = rank * self.local_kv_heads // self.copies
        return range(first, first + self.local_kv_heads)

    def ffn(self, rank: int) -> range:
        """This rank's columns of the MLP; those past the model's own are zeros."""
        each = self.ffn_size // self.size
        return range(rank * each, (rank + 1) * each)


def split_over(shape: Divisible, size: int) -> RankSplit:
    """Divide a model among `size` ranks; whole groups of heads stay together."""
    heads, kv_heads = shape.num_heads, shape.num_kv_heads
    ffn_size = -(-shape.ffn_size // size) * size
    if size % kv_heads == 0 and heads % size == 0:
        # Repeated at load, where megatron would gather them in every layer.
        return RankSplit(size, heads, size, ffn_size, size // kv_heads)
    padded = -(-kv_heads // size) * size
    return RankSplit(size, heads // kv_heads * padded, padded, ffn_size, 1)


@dataclass(frozen=True, slots=True)
class Stage:
    """A contiguous share of a model's layers.

    Attributes:
        is_first: it has the embedding.
        is_last: it has the final norm and the output layer.
    """

    layers: range
    is_first: bool
    is_last: bool


def stage_of(num_layers: int, stage: int, num_stages: int) -> Stage:
    """One stage's share. Those in front get the layers left over: the last has the output layer.

    Raises:
        ConfigError: there are fewer layers than stages.
    """
    if num_layers < num_stages:
        raise ConfigError(
            f"pipeline parallel size {num_stages}: the model has {num_layers} layers, fewer than"
            " one a stage"
        )
    each, left_over = divmod(num_layers, num_stages)
    first = stage * each + min(stage, left_over)
    layers = range(first, first + each + (stage < left_over))
    return Stage(layers, is_first=stage == 0, is_last=stage == num_stages - 1)
