"""What a calibration found, as bytes: input factors of every matrix, whole, whatever the ranks.

A safetensors file. Names are the engine's: `{layer}.linear_qkv`, `{layer}.linear_proj`,
`{layer}.linear_fc1`, `{layer}.linear_fc2`; each tensor is (inputs,) in FACTOR_DTYPE. Equal factors
give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from neva.errors import ConfigError
from neva.reasons import Reason
from worker.engine.quantization.scale_search import FACTOR_DTYPE

MATRICES = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")

Factors = Mapping[tuple[int, str], torch.Tensor]
"""By layer and matrix."""


def to_bytes(factors: Factors) -> bytes:
    """The file's content."""
    named = {f"{layer}.{matrix}": tensor.cpu() for (layer, matrix), tensor in factors.items()}
    return save(dict(sorted(named.items())), metadata={"format": "pt"})


def from_bytes(data: bytes, num_layers: int) -> Factors:
    """Read what `to_bytes` wrote.

    Raises:
        ConfigError: LEDGER_CORRUPT, it is another file, or another model's.
    """
    try:
        found = load(data)
    except SafetensorError as error:
        raise _corrupt(str(error)) from error
    expected = {f"{n}.{name}": (n, name) for n in range(num_layers) for name in MATRICES}
    if found.keys() != expected.keys():
        raise _corrupt(f"it holds {len(found)} matrices, the model has {len(expected)}")
    if any(t.dim() != 1 or t.dtype != FACTOR_DTYPE for t in found.values()):
        raise _corrupt("its tensors are no factors")
    return {place: found[name] for name, place in expected.items()}


def _corrupt(problem: str) -> ConfigError:
    return ConfigError(
        f"the run's calibration can't be used: {problem}", reason=Reason.LEDGER_CORRUPT
    )
