"""What one media file may be and may take. Beyond it its rows fail; the job goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from neva.errors import RowError
from neva.reasons import Reason
from neva.settings import Settings


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Each from the setting of the same name.

    Attributes:
        max_pixels: of one frame or image, as its header claims them: nothing is allocated before.
        decode_timeout_s: of one decoder on one file, by the clock.
        decode_memory_bytes: private memory of the decoding process, itself included.
    """

    max_bytes: int = 16 << 30
    max_pixels: int = 100_000_000
    max_duration_s: float = 14_400.0
    max_frames: int = 1_000_000
    decode_timeout_s: float = 60.0
    decode_memory_bytes: int = 4 << 30

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        return cls(
            settings.media_max_bytes,
            settings.media_max_pixels,
            settings.media_max_duration_s,
            settings.media_max_frames,
            settings.decode_timeout_s,
            settings.decode_memory_bytes,
        )

    def check_bytes(self, name: str, num_bytes: int) -> None:
        """Raises RowError: MEDIA_TOO_LARGE, as all checks here do."""
        if num_bytes > self.max_bytes:
            raise too_large(name, f"{num_bytes} bytes", f"{self.max_bytes} (NEVA_MEDIA_MAX_BYTES)")

    def check_size(self, name: str, width: int, height: int) -> None:
        if width * height > self.max_pixels:
            limit = f"{self.max_pixels} pixels (NEVA_MEDIA_MAX_PIXELS)"
            raise too_large(name, f"{width}x{height}", limit)

    def check_duration(self, name: str, seconds: float) -> None:
        if seconds > self.max_duration_s:
            limit = f"{self.max_duration_s:g} s (NEVA_MEDIA_MAX_DURATION_S)"
            raise too_large(name, f"{seconds:.0f} s", limit)

    def check_frames(self, name: str, num_frames: int) -> None:
        if num_frames > self.max_frames:
            limit = f"{self.max_frames} (NEVA_MEDIA_MAX_FRAMES)"
            raise too_large(name, f"{num_frames} frames", limit)


def too_large(name: str, found: str, limit: str) -> RowError:
    """The error for a file beyond a limit."""
    return RowError(f"{name} has {found}; the limit is {limit}", reason=Reason.MEDIA_TOO_LARGE)
