"""A matrix of megatron's, multiplied."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

from worker.engine.megatron_api import ColumnParallelLinear, RowParallelLinear


def project(module: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """module(x): the product and a bias that is still to be added.

    A rank that holds all of a plain matrix multiplies at once: megatron's autograd functions and
    collectives would change nothing, and on small models take as long as the product.
    """
    is_plain = type(module) in (ColumnParallelLinear, RowParallelLinear)
    # A calibration watches the module's calls by hooks.
    if not is_plain or module.tp_group.size() > 1 or module._forward_pre_hooks:
        product: tuple[torch.Tensor, torch.Tensor | None] = module(x)
        return product
    if module.skip_bias_add:
        return linear(x, module.weight), module.bias
    return linear(x, module.weight, module.bias), None
