"""Mutated files through the decoding process: bits flipped, pieces cut out, headers rewritten.

`make fuzz-media` reads 2,000 of them, `make test` a sample (`test_fuzz.py`). Every file must come
back, as pixels or with a reason, in time, and the process must be there for the next one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from neva.errors import RowError
from neva.media_rules import MediaRules
from tests.worker.media.footage import GOOD_IMAGES, GOOD_VIDEOS, write_all
from worker.media.decoder import Decoders
from worker.media.limits import MediaLimits
from worker.media.preprocess import ClipPreprocessor
from worker.media.wire import DecoderSetup

PREPROCESS: Final = ClipPreprocessor(32, (32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LIMITS: Final = MediaLimits(decode_timeout_s=10.0, decode_memory_bytes=2 << 30)
_HEADER_BYTES: Final = 2048
_NUM_VIDEO_FRAMES: Final = 8
# Values that sizes, counts and offsets break at.
_EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@dataclass(slots=True)
class Outcome:
    """What became of the files.

    Attributes:
        reasons: by reason, and "answered".
        slowest_s: seconds of the slowest file.
        num_restarts: processes that were lost to a file.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    num_restarts: int = 0


def mutate(content: bytes, random_: random.Random) -> bytes:
    """The file with one kind of damage, as uploads, disks and attackers do it."""
    data = bytearray(content)
    kind = random_.choice(("bits", "header bits", "edges", "cut", "hole", "double", "noise"))
    header = min(_HEADER_BYTES, len(data))
    match kind:
        case "bits":
            for _ in range(random_.choice((1, 8, 64, 400))):
                data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        case "header bits":
            for _ in range(random_.choice((1, 4, 16))):
                # Indexes of MP4 files stand at the end.
                at = random_.randrange(header)
                at = at if random_.random() < 0.5 else len(data) - 1 - at
                data[at] ^= 1 << random_.randrange(8)
        case "edges":
            for _ in range(random_.choice((1, 2, 5))):
                at = random_.randrange(max(1, header - 4))
                at = at if random_.random() < 0.5 else max(0, len(data) - 4 - at)
                value = random_.choice(_EDGES)
                data[at : at + 4] = value.to_bytes(4, random_.choice(("big", "little")))
        case "cut":
            del data[random_.randrange(len(data)) :]
        case "hole":
            at = random_.randrange(len(data))
            del data[at : at + random_.choice((1, 3, 188, 4096))]
        case "double":
            at = random_.randrange(len(data))
            data[at:at] = data[at : at + random_.choice((1, 16, 512))]
        case "noise":
            at = random_.randrange(len(data))
            num_bytes = min(len(data) - at, random_.choice((4, 64, 1024)))
            data[at : at + num_bytes] = random_.randbytes(num_bytes)
    return bytes(data)


def mutated_files(folder: Path, num_files: int, seed: int) -> Iterator[tuple[str, Path]]:
    """("video" or "image", path) one after the other; a path is valid until the next one."""
    random_ = random.Random(seed)
    sources = [
        *(("video", path) for path in write_all(folder / "videos", GOOD_VIDEOS).values()),
        *(("image", path) for path in write_all(folder / "images", GOOD_IMAGES).values()),
    ]
    contents = [(kind, path.suffix, path.read_bytes()) for kind, path in sources]
    for number in range(num_files):
        kind, suffix, content = contents[number % len(contents)]
        path = folder / f"{number}{suffix}"
        path.write_bytes(mutate(content, random_))
        yield kind, path
        path.unlink()


def fuzz(folder: Path, num_files: int, seed: int) -> Outcome:
    """Read mutated files; raises AssertionError when one is lost."""
    outcome = Outcome()
    rules = {
        "video": MediaRules("video", _NUM_VIDEO_FRAMES, None, "rgb"),
        "image": MediaRules("image", 1, None, "rgb"),
    }
    with (
        Decoders(DecoderSetup(rules["video"], PREPROCESS, LIMITS)) as videos,
        Decoders(DecoderSetup(rules["image"], PREPROCESS, LIMITS)) as images,
    ):
        decoders = {"video": videos, "image": images}
        pids: dict[str, list[int]] = {"video": [], "image": []}
        for kind, path in mutated_files(folder, num_files, seed):
            started_s = time.monotonic()
            reason = _read(decoders[kind], path, folder / "pixels")
            outcome.reasons[reason] += 1
            outcome.slowest_s = max(outcome.slowest_s, time.monotonic() - started_s)
            now = decoders[kind].pids
            outcome.num_restarts += bool(pids[kind]) and now != pids[kind]
            pids[kind] = now
    return outcome


def _read(decoders: Decoders, path: Path, pixels: Path) -> str:
    try:
        done, _ = decoders.read(path, pixels)
    except RowError as error:
        assert path.name in error.message or "no frames" in error.message, error.message
        return str(error.reason)
    values = np.fromfile(pixels, np.float32).reshape(done.shape)
    assert np.isfinite(values).all()
    assert np.abs(values).max() <= 1.001
    assert len(done.frames) == done.shape[0]
    return "answered"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fz") as folder:
        outcome = fuzz(Path(folder), arguments.files, arguments.seed)
    for reason, number in sorted(outcome.reasons.items()):
        print(f"{reason}: {number}")
    lost = arguments.files - outcome.reasons.total()
    print(
        f"fuzz-media: files={arguments.files} seed={arguments.seed} lost={lost} "
        f"slowest_s={outcome.slowest_s:.1f} restarts={outcome.num_restarts}"
    )
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
