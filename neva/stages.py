"""The stages that a worker's time is divided into."""

from __future__ import annotations

from typing import Final

DOWNLOAD: Final = "download"
DECODE: Final = "decode"
PREPROCESS: Final = "preprocess"
WAIT_FOR_MEDIA: Final = "wait_for_media"
WAIT_FOR_ENGINE: Final = "wait_for_engine"
ENGINE: Final = "engine"

STAGES: Final = (DOWNLOAD, DECODE, PREPROCESS, WAIT_FOR_MEDIA, WAIT_FOR_ENGINE, ENGINE)
