"""What the engine uses of nvidia-modelopt, imported once and without its own words.

It is an extra: only `int8_sq` and `fp8` need it, and only then is this module imported.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without its progress lines and its warnings about optional packages."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


with quietly():
    from modelopt.torch.quantization import FP8_DEFAULT_CFG, INT8_SMOOTHQUANT_CFG, quantize
    from modelopt.torch.quantization.config import QuantizerAttributeConfig
    from modelopt.torch.quantization.nn import TensorQuantizer

__all__ = [
    "FP8_DEFAULT_CFG",
    "INT8_SMOOTHQUANT_CFG",
    "QuantizerAttributeConfig",
    "TensorQuantizer",
    "quantize",
    "quietly",
]
