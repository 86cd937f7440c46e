"""A decoder that crashes, hangs or wants too much: what becomes of it, and of the next file.

The preprocessing stands in for a decoder's native code, as it runs in the same process: the number
painted into the first frame says what it does there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from neva.errors import NevaError, RowError
from neva.media_rules import MediaRules
from neva.process import is_alive
from neva.reasons import Reason
from tests.worker.media.videos import numbered_frame, read_numbers, write_video
from worker.media.decoder import Decoders
from worker.media.limits import MediaLimits
from worker.media.wire import DecoderSetup

GOOD, CRASH, HANG, BLOAT, END, LIE, PRINT, LEAK = range(8)
TIMEOUT_S = 2.0
LIMITS = MediaLimits(decode_timeout_s=TIMEOUT_S, decode_memory_bytes=1 << 30)
IMAGE = MediaRules("image", 1, None, "rgb")
VIDEO = MediaRules("video", 2, None, "rgb")


def misbehaving(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Does what the first frame says."""
    match read_numbers(frames)[0]:
        case 1:
            os.kill(os.getpid(), signal.SIGSEGV)
        case 2:
            time.sleep(600)
        case 3:
            np.ones(4 << 30, np.uint8)
        case 4:
            os._exit(3)
        case 5:
            for descriptor in range(3, 20):
                with suppress(OSError):
                    os.write(descriptor, b"\0\0\0\2\0\0\0\0{}" * 100)
        case 6:
            print("a library talks", flush=True)
            os.write(1, b"and its native part, too\n")
        case 7:
            raise ValueError(" ".join(sorted(os.environ)))
    return frames.astype(np.float32).transpose(0, 3, 1, 2)


def hanging_at_decord(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    if "decord" in sys.modules:
        time.sleep(600)
    return frames.astype(np.float32).transpose(0, 3, 1, 2)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(8):
        Image.fromarray(numbered_frame(number)).save(folder / f"{number}.png")
    return {number: folder / f"{number}.png" for number in range(8)}


@pytest.fixture
def make() -> Iterator[Callable[..., Decoders]]:
    made: list[Decoders] = []

    def build(rules: MediaRules = IMAGE, limits: MediaLimits = LIMITS, preprocess=misbehaving):  # type: ignore[no-untyped-def]
        made.append(Decoders(DecoderSetup(rules, preprocess, limits)))
        return made[-1]

    yield build
    for decoders in made:
        decoders.close()


@pytest.mark.parametrize(
    ("deed", "reason", "words"),
    [
        (CRASH, Reason.DECODER_CRASHED, "its decoder was killed by SIGSEGV"),
        (HANG, Reason.MEDIA_TIMEOUT, "its decoder took more than 2 s"),
        (BLOAT, Reason.MEDIA_TOO_LARGE, "the memory for decoding"),
        (END, Reason.DECODER_CRASHED, "its decoder ended with 3"),
        (LIE, Reason.DECODER_CRASHED, "its decoder"),
    ],
    ids=["crash", "hang", "bloat", "end", "lie"],
)
def test_a_file_that_ends_its_decoder_fails_alone_and_the_next_one_is_read(
    pictures: dict[int, Path],
    make: Callable[..., Decoders],
    tmp_path: Path,
    deed: int,
    reason: Reason,
    words: str,
) -> None:
    decoders = make()
    decoders.read(pictures[GOOD], tmp_path / "before")
    started_s = time.monotonic()
    with pytest.raises(RowError, match=rf"^{deed}\.png .*{words}") as caught:
        decoders.read(pictures[deed], tmp_path / "bad")
    assert time.monotonic() - started_s < TIMEOUT_S + 5
    assert caught.value.reason is reason
    assert not caught.value.retryable
    done, strip = decoders.read(pictures[GOOD], tmp_path / "after")
    assert done.shape == (1, 3, 96, 128)
    assert (tmp_path / "after").read_bytes() == (tmp_path / "before").read_bytes()
    assert strip.startswith(b"\xff\xd8")
    assert len(decoders.pids) == 1


def test_what_a_library_prints_is_no_answer(
    pictures: dict[int, Path], make: Callable[..., Decoders], tmp_path: Path
) -> None:
    decoders = make()
    for _ in range(2):
        assert decoders.read(pictures[PRINT], tmp_path / "pixels")[0].frames == (0,)


def test_decoding_knows_no_credentials(
    pictures: dict[int, Path],
    make: Callable[..., Decoders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "API_TOKEN", "NEVA_REDIS_URL", "NEVA_JOB"):
        monkeypatch.setenv(name, "secret")
    with pytest.raises(RowError, match="PATH") as caught:
        make().read(pictures[LEAK], tmp_path / "pixels")
    for word in ("AWS", "TOKEN", "NEVA"):
        assert word not in caught.value.message


def test_where_decord_hangs_pyav_reads(make: Callable[..., Decoders], tmp_path: Path) -> None:
    pytest.importorskip("decord", reason="decord is for x86-64 only")
    path = write_video(tmp_path / "a.mp4", 5)
    decoders = make(rules=VIDEO, preprocess=hanging_at_decord)
    done, _ = decoders.read(path, tmp_path / "pixels")
    assert done.decoder == "pyav"
    assert done.frames == (0, 4)
    # Who asked for decord gets no other.
    alone = make(rules=replace(VIDEO, decoder="decord"), preprocess=hanging_at_decord)
    with pytest.raises(RowError) as caught:
        alone.read(path, tmp_path / "pixels")
    assert caught.value.reason is Reason.MEDIA_TIMEOUT


def test_a_decoder_that_can_not_start_is_nobodys_fault(
    pictures: dict[int, Path],
    make: Callable[..., Decoders],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NevaError, match="no decoding process can be started") as caught:
        make().read(pictures[GOOD], tmp_path / "pixels")
    assert not isinstance(caught.value, RowError)


def test_decoders_die_with_whoever_started_them(pictures: dict[int, Path], tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from tests.worker.media.test_decoder import *\n"
        "decoders = Decoders(DecoderSetup(IMAGE, misbehaving, LIMITS))\n"
        "decoders.read(Path(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(decoders.pids[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(pictures[GOOD]), str(tmp_path / "pixels")],
        check=False,
        timeout=60,
        capture_output=True,
    )
    pid = int(run.stdout)
    deadline_s = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert not is_alive(pid)
