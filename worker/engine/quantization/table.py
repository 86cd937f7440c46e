"""What a calibration found, as bytes: about every matrix as a whole, whatever the ranks.

A safetensors file. Names are the engine's: `{layer}.linear_qkv`, `{layer}.linear_proj`,
`{layer}.linear_fc1`, `{layer}.linear_fc2` for the factors, and the same with `.input_limit`.
Equal findings give equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from neva.errors import ConfigError
from neva.reasons import Reason

MATRICES = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")
_LIMIT = ".input_limit"


@dataclass(frozen=True, slots=True)
class MatrixFindings:
    """What one matrix is quantized by.

    Attributes:
        factors: what inputs are multiplied by, (inputs,); columns are divided by it.
        input_limit: largest size of a multiplied input, (); None: inputs are not rounded.
    """

    factors: torch.Tensor
    input_limit: torch.Tensor | None = None


Findings = Mapping[tuple[int, str], MatrixFindings]
"""By layer and matrix."""


def to_bytes(findings: Findings) -> bytes:
    """The file's content."""
    named = {}
    for (layer, matrix), found in findings.items():
        named[f"{layer}.{matrix}"] = found.factors.cpu()
        if found.input_limit is not None:
            named[f"{layer}.{matrix}{_LIMIT}"] = found.input_limit.cpu()
    return save(dict(sorted(named.items())), metadata={"format": "pt"})


def from_bytes(data: bytes, num_layers: int, *, has_limits: bool) -> Findings:
    """Read what `to_bytes` wrote.

    Raises:
        ConfigError: LEDGER_CORRUPT, it is another file, or another model's or algorithm's.
    """
    try:
        found = load(data)
    except SafetensorError as error:
        raise _corrupt(str(error)) from error
    places = {f"{n}.{name}": (n, name) for n in range(num_layers) for name in MATRICES}
    limits = {f"{name}{_LIMIT}" for name in places} if has_limits else set()
    if found.keys() != places.keys() | limits:
        raise _corrupt(f"it holds {len(found)} tensors, not {len(places) + len(limits)}")
    if any(found[name].dim() != 1 for name in places) or any(found[n].dim() for n in limits):
        raise _corrupt("its tensors have other shapes")
    return {
        place: MatrixFindings(found[name], found.get(f"{name}{_LIMIT}"))
        for name, place in places.items()
    }


def _corrupt(problem: str) -> ConfigError:
    return ConfigError(
        f"the run's calibration can't be used: {problem}", reason=Reason.LEDGER_CORRUPT
    )
