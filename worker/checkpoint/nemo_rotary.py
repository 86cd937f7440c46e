"""The rotary embedding's frequencies as NeMo computes them."""

from __future__ import annotations

from math import pi

import torch

from neva.nemo_config import LanguageConfig

# Llama 3.1's scaling. NeMo's `scale_positional_embedding` has these numbers and no others (v2.0.0).
LLAMA_3_FACTOR = 8.0
LLAMA_3_LOW_FREQUENCY = 1.0
LLAMA_3_HIGH_FREQUENCY = 4.0
LLAMA_3_OLD_CONTEXT = 8192


def inverse_frequencies(config: LanguageConfig) -> list[float]:
    """One for each rotated pair of dimensions.

    In float32 as both NeMo and transformers compute them, so that the tables are the same.
    """
    steps = torch.arange(0, config.rotary_size, 2).float() / config.rotary_size
    frequencies = 1.0 / config.rotary_base**steps
    if config.rotary_is_scaled:
        frequencies = scaled(frequencies)
    found: list[float] = (frequencies / config.rotary_interpolation).tolist()
    return found


def scaled(frequencies: torch.Tensor) -> torch.Tensor:
    """Llama 3.1's: long waves are stretched, short ones stay, those between go over smoothly."""
    wave_lengths = 2 * pi / frequencies
    waves = LLAMA_3_OLD_CONTEXT / wave_lengths  # within the old context
    share = (waves - LLAMA_3_LOW_FREQUENCY) / (LLAMA_3_HIGH_FREQUENCY - LLAMA_3_LOW_FREQUENCY)
    share = share.clamp(0, 1)
    return (1 - share) * frequencies / LLAMA_3_FACTOR + share * frequencies
