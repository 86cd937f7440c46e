"""What the engine uses of megatron-core, imported once and without its import-time warnings.

megatron-core 0.16.1 warns on import that Transformer Engine and Apex are missing (they are not
wanted: the same layers run on CPU and CUDA) and of its own deprecated paths. Those warnings, and
no others, are silenced here.
"""

from __future__ import annotations

import warnings

_IMPORT_WARNINGS = (
    (UserWarning, r"Transformer Engine and Apex are not installed"),
    (UserWarning, r"Apex is not installed"),
    (DeprecationWarning, r"The following imports from `dynamic_context\.py` will be removed"),
    (DeprecationWarning, r"The 'megatron\.core\.transformer\.custom_layers\.transformer_engine'"),
    (DeprecationWarning, r"`torch\.jit\.script_method` is deprecated"),
    (DeprecationWarning, r"`torch\.jit\.script` is deprecated"),
)

with warnings.catch_warnings():
    for _category, _message in _IMPORT_WARNINGS:
        warnings.filterwarnings("ignore", message=r"\s*" + _message, category=_category)
    from megatron.core import parallel_state
    from megatron.core.inference.contexts.base_context import BaseInferenceContext
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.attention import SelfAttention
    from megatron.core.transformer.identity_op import IdentityOp
    from megatron.core.transformer.transformer_config import TransformerConfig

__all__ = [
    "BaseInferenceContext",
    "GPTModel",
    "IdentityOp",
    "SelfAttention",
    "TransformerConfig",
    "get_gpt_layer_local_spec",
    "parallel_state",
]
