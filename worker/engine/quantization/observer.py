"""What the matrices of a layer are applied to, seen by hooks."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import torch

from worker.engine.quantization.scale_search import Inputs


class Observer:
    """Watches modules while its `with` block runs `num_tokens` tokens through them.

    The sample is spread evenly over all tokens, so that it does not depend on how they come.
    """

    def __init__(self, modules: Mapping[str, Any], num_tokens: int, num_sampled: int) -> None:
        self._modules = modules
        self._stride = max(1, -(-num_tokens // num_sampled))
        self._sums: dict[str, torch.Tensor] = {}
        self._counts = dict.fromkeys(modules, 0)
        self._samples: dict[str, list[torch.Tensor]] = {name: [] for name in modules}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for name, module in self._modules.items():

            def see(_: object, arguments: tuple[torch.Tensor, ...], name: str = name) -> None:
                self._see(name, arguments[0])

            self._handles.append(module.register_forward_pre_hook(see))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def inputs(self, name: str) -> Inputs:
        """What one module saw."""
        sizes = (self._sums[name] / self._counts[name]).float()
        return Inputs(sizes, torch.cat(self._samples[name]))

    def _see(self, name: str, inputs: torch.Tensor) -> None:
        """inputs: (tokens, rows, inputs)"""
        tokens = inputs.flatten(0, 1).float()
        sums = tokens.abs().sum(0, dtype=torch.float64)
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums
        first = -self._counts[name] % self._stride
        self._samples[name].append(tokens[first :: self._stride].clone())
        self._counts[name] += len(tokens)
