"""Files fetched in pieces: the same frames as of the whole, from fewer bytes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import RowError
from neva.media_rules import MediaRules
from neva.reasons import Reason
from neva.store import NotFound, StoreUnavailable, open_store
from tests.worker.media.footage import BAD_VIDEOS, GOOD_VIDEOS, Footage, write_all
from tests.worker.media.test_footage import PREPROCESS, named
from tests.worker.media.videos import write_video
from worker.media import ranged
from worker.media.clip import read_clip
from worker.media.decoder import Decoders
from worker.media.decoder_main import answer
from worker.media.limits import MediaLimits
from worker.media.prepare import MediaPreparer
from worker.media.ranged import BLOCK_BYTES, Blocks, RangedDownload
from worker.media.shared import SharedMedia
from worker.media.wire import HEADER, Ask, DecoderSetup, Done, unpack_answer, unpack_sizes

RULES = MediaRules("video", 4, None, "rgb")
LIMITS = MediaLimits()


def read_in_pieces(path: Path, rules: MediaRules = RULES) -> tuple[Done | RowError, int]:
    """What became of it, and how many bytes that took."""
    target = path.with_name(f"pieces-{path.name}")
    pieces = RangedDownload(open_store(str(path.parent)), path.name, target, path.stat().st_size)
    ask = Ask(path=str(target), pixels=f"{target}.f32", decoder=rules.decoder, in_pieces=True)
    message = answer(ask, DecoderSetup(rules, PREPROCESS, LIMITS), pieces.fetch)
    sizes = unpack_sizes(message[: HEADER.size])
    got = unpack_answer(message[HEADER.size : HEADER.size + sizes.num_json_bytes])
    if isinstance(got, Done):
        return got, pieces.num_bytes_read
    assert got.kind == "failed"
    return RowError(got.message, reason=Reason(got.reason)), pieces.num_bytes_read


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are small, too."""
    monkeypatch.setattr(ranged, "BLOCK_BYTES", 512)


@named(GOOD_VIDEOS)
def test_pieces_give_the_frames_of_the_whole(kind: Footage, tmp_path: Path) -> None:
    path = write_all(tmp_path, (kind,))[kind.name]
    whole = read_clip(path, RULES, PREPROCESS, LIMITS)
    done, num_bytes = read_in_pieces(path)
    assert isinstance(done, Done)
    assert done.frames == whole.frames
    if num_bytes < path.stat().st_size:
        assert done.decoder == "pyav"
    pixels = np.fromfile(path.with_name(f"pieces-{path.name}.f32"), np.float32)
    np.testing.assert_array_equal(pixels.reshape(done.shape), whole.pixels)
    assert num_bytes <= path.stat().st_size, "nothing is fetched twice"


@named(BAD_VIDEOS)
def test_pieces_fail_for_the_reason_of_the_whole(kind: Footage, tmp_path: Path) -> None:
    path = write_all(tmp_path, (kind,))[kind.name]
    error, _ = read_in_pieces(path)
    assert isinstance(error, RowError)
    assert error.reason is kind.reason


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("movflags", ["", "faststart"])
def test_of_a_video_with_many_key_frames_few_bytes_are_read(
    tmp_path: Path, place: str, movflags: str
) -> None:
    path = write_noise(tmp_path / "a.mp4", {"movflags": movflags} if movflags else {})
    rules = MediaRules("video", 1, place, "rgb")  # type: ignore[arg-type]
    done, num_bytes = read_in_pieces(path, rules)
    assert isinstance(done, Done)
    whole = read_clip(path, rules, PREPROCESS, LIMITS)
    assert done.frames == whole.frames
    pixels = np.fromfile(path.with_name(f"pieces-{path.name}.f32"), np.float32)
    np.testing.assert_array_equal(pixels.reshape(done.shape), whole.pixels)
    assert num_bytes < 0.4 * path.stat().st_size


def write_noise(path: Path, container_options: dict[str, str]) -> Path:
    """About a megabyte: FFmpeg looks at some dozens of kilobytes anyway."""
    random = np.random.default_rng(1)
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 128, "yuv420p"
        stream.options = {"g": "10", "qscale": "3"}
        for _ in range(150):
            picture = random.integers(0, 256, (128, 160, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_what_is_too_large_is_not_fetched(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", 3, show_at=[0, 24, 24 * 36_000])
    with path.open("ab") as file:
        file.write(bytes(100_000))
    error, num_bytes = read_in_pieces(path)
    assert isinstance(error, RowError)
    assert error.reason is Reason.MEDIA_TOO_LARGE
    assert num_bytes < 50_000


@given(
    size=st.integers(1, 20 * BLOCK_BYTES),
    asked=st.lists(st.tuples(st.integers(0, 20 * BLOCK_BYTES), st.integers(0, 5 * BLOCK_BYTES))),
)
def test_blocks_cover_what_is_asked_for_and_come_once(
    size: int, asked: list[tuple[int, int]]
) -> None:
    blocks = Blocks(size)
    got: set[int] = set()
    for offset, num_bytes in asked:
        for start, length in blocks.take_missing([(offset, num_bytes)]):
            assert 0 <= start < start + length <= size
            step = ranged.BLOCK_BYTES
            fresh = set(range(start // step, -(-(start + length) // step)))
            assert not fresh & got
            got |= fresh
        for byte in (offset, offset + num_bytes - 1):
            if num_bytes and byte < size:
                assert byte // ranged.BLOCK_BYTES in got


def preparer(tmp_path: Path, decoders: Decoders) -> MediaPreparer:
    (tmp_path / "media").mkdir(exist_ok=True)
    return MediaPreparer(
        media=Remote(tmp_path / "media"),  # type: ignore[arg-type]
        output=open_store(str(tmp_path / "out")),
        decoders=decoders,
        limits=LIMITS,
        downloads_dir=tmp_path,
        pixels_dir=tmp_path,
        shared=SharedMedia(tmp_path / "shared", 0),
        whole_bytes=0,
    )


class Remote:
    """A folder that acts like a bucket, and fails when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.below = open_store(str(folder))
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.below, name)

    def local_path(self, key: str) -> None:
        return None

    def open_read(self, key: str, **place: int) -> object:
        if self.error is not None:
            raise self.error
        return self.below.open_read(key, **place)


def test_a_decoding_process_asks_for_what_it_needs(tmp_path: Path) -> None:
    with Decoders(DecoderSetup(RULES, PREPROCESS, LIMITS)) as decoders:
        prepare = preparer(tmp_path, decoders)
        path = write_video(tmp_path / "media" / "a.mp4", 30)
        whole = read_clip(path, RULES, PREPROCESS, LIMITS)
        media = prepare.prepare("a.mp4")
        pixels = np.fromfile(media.ref.path, np.float32).reshape(media.ref.shape)
        np.testing.assert_array_equal(pixels, whole.pixels)
        assert "download" in prepare.seconds.total()
        # A store that fails in the middle fails as itself, and the next file is read.
        for error, raised in (
            (StoreUnavailable("503"), StoreUnavailable),
            (NotFound("gone"), RowError),
        ):
            prepare.media.error = error  # type: ignore[attr-defined]
            with pytest.raises(raised):
                prepare.prepare("a.mp4")
        prepare.media.error = None  # type: ignore[attr-defined]
        assert prepare.prepare("a.mp4").ref.key == media.ref.key
    assert not list(tmp_path.glob("*-download/*")), "nothing is left of the downloads"


def test_rules_of_one_frame_are_the_same_in_pieces(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 60, options={"g": "12", "bf": "3"})
    for number in (1, 2, 8, 60, 100):
        rules = replace(RULES, num_frames=number)
        done, _ = read_in_pieces(path, rules)
        assert isinstance(done, Done)
        whole = read_clip(path, rules, PREPROCESS, LIMITS)
        pixels = np.fromfile(path.with_name(f"pieces-{path.name}.f32"), np.float32)
        np.testing.assert_array_equal(pixels.reshape(done.shape), whole.pixels)
