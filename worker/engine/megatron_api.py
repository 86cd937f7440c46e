"""What the engine uses of megatron-core, imported once and without its own warnings.

megatron-core 0.16.1 warns that Transformer Engine and Apex are missing (they are not wanted: the
same layers run on CPU and CUDA) and of its own deprecated paths. Those warnings, by their text,
and no others are silenced.
"""

from __future__ import annotations

import warnings

_ITS_OWN_WARNINGS = (
    (UserWarning, r"Transformer Engine and Apex are not installed"),
    (UserWarning, r"Apex is not installed"),
    (DeprecationWarning, r"The following imports from `dynamic_context\.py` will be removed"),
    (DeprecationWarning, r"The 'megatron\.core\.transformer\.custom_layers\.transformer_engine'"),
    (DeprecationWarning, r"`torch\.jit\.script(_method)?` is deprecated"),
    (DeprecationWarning, r"MLP requires ffn_hidden_size, but it was not provided"),
    (DeprecationWarning, r"Warning: tp_group is None, using default tp group"),
)


def silence_its_own_warnings() -> None:
    """For the rest of the process, since some come with every forward pass."""
    for category, message in _ITS_OWN_WARNINGS:
        warnings.filterwarnings("ignore", message=r"\s*" + message, category=category)


silence_its_own_warnings()

from megatron.core import parallel_state  # noqa: E402
from megatron.core.models.gpt import GPTModel  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # noqa: E402
from megatron.core.tensor_parallel import (  # noqa: E402
    ColumnParallelLinear,
    RowParallelLinear,
)
from megatron.core.transformer.attention import SelfAttention  # noqa: E402
from megatron.core.transformer.identity_op import IdentityOp  # noqa: E402
from megatron.core.transformer.transformer_config import TransformerConfig  # noqa: E402

__all__ = [
    "ColumnParallelLinear",
    "GPTModel",
    "IdentityOp",
    "RowParallelLinear",
    "SelfAttention",
    "TransformerConfig",
    "get_gpt_layer_local_spec",
    "parallel_state",
    "silence_its_own_warnings",
]
