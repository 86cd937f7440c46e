"""Whether the decoder that a job names is installed. Asked before a worker starts anything."""

from __future__ import annotations

import importlib.util
import platform

from neva.errors import ConfigError
from neva.media_rules import Decoder


def require_decoder(decoder: Decoder) -> None:
    """Refuse a job whose every video would fail.

    Raises:
        ConfigError: it is not installed here. (`auto` takes what there is.)
    """
    if decoder in ("decord", "torchcodec") and importlib.util.find_spec(decoder) is None:
        raise ConfigError(
            f"spec.media.decoder: {decoder} is not installed on this worker "
            f"({platform.machine()}); install it, or take auto or pyav"
        )
