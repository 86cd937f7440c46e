"""How fast media become pixels: `python -m benchmarks.bench_media` (`make bench-media`); minutes.

decode_vs_best     CPU seconds of 8 frames out of 30 s of 720p H.264, key frames every 250 and every
                   30, ours through the fastest of decord, PyAV's plain use and torchcodec (if it is
                   installed); the worse of the two files. Ours is `decoder: auto`, which is decord;
                   pyav_vs_best is the same with `decoder: pyav`. All give the same frames.
engine_idle_share  of the time between the first and the last answer, in a job of 64 distinct 720p
                   videos and an engine that takes 50 ms a row. Where decoding is the bound (twice
                   the engine's time shows whether it was), look at decoders_busy, the share of that
                   time in which the decoders had work.
bytes_read_share   of a faststart mp4 of 200 MB, 8 frames.
images_per_s_vs_pil  1280x720 JPEGs decoded and preprocessed, ours through Pillow and numpy alone.

The machine may have other work: CPU seconds and medians of interleaved runs are compared.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from neva.frames import frame_indices
from neva.media_rules import Decoder, MediaRules
from neva.store import open_store
from worker.media.ahead import MediaAhead
from worker.media.clip import read_clip
from worker.media.decode import decord_is_installed, open_video
from worker.media.decoder import Decoders, Fetch
from worker.media.limits import MediaLimits
from worker.media.prepare import MediaPreparer
from worker.media.preprocess import ClipPreprocessor
from worker.media.ranged import RangedDownload, RangedFile, fetch_needed
from worker.media.shared import SharedMedia
from worker.media.wire import DecoderSetup, Done

WIDTH, HEIGHT, RATE = 1280, 720, 25
NUM_FRAMES: Final = 8
ROW_S: Final = 0.05
NUM_VIDEOS: Final = 64
RUNS: Final = 3
VIDEO: Final = MediaRules("video", NUM_FRAMES, None, "rgb")
IMAGE: Final = MediaRules("image", 1, None, "rgb")
CLIP: Final = ClipPreprocessor(224, (224, 224), (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))
LIMITS: Final = MediaLimits()

Frames = NDArray[np.uint8]


def write_720p(
    path: Path, seconds: float, keys_every: int, codec: str, noise_levels: int = 40, **options: str
) -> Path:
    """Something that moves over noise, about what a camera gives."""
    random = np.random.default_rng(1)
    noise = random.integers(0, noise_levels, (HEIGHT + 64, WIDTH + 64, 3), np.uint8)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream(codec, rate=RATE)
        if not isinstance(stream, VideoStream):
            raise TypeError(f"{codec} is no video codec")
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"g": str(keys_every), **options}
        for number in range(int(seconds * RATE)):
            down, right = number % 64, number * 7 % 64
            picture = 100 + noise[down : down + HEIGHT, right : right + WIDTH]
            left = number * 5 % (WIDTH - 200)
            picture[200:400, left : left + 200] = (220, 60, 40)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


# ---- decoding ----


def ours(path: Path, decoder: Decoder = "auto") -> Frames:
    with closing(open_video(path, decoder)) as video:
        return video.get_frames(frame_indices(video.num_frames, NUM_FRAMES))


def decord_alone(path: Path) -> Frames:
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    frames: Frames = reader.get_batch(list(frame_indices(len(reader), NUM_FRAMES))).asnumpy()
    return frames


def pyav_plainly(path: Path) -> Frames:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        wanted = frame_indices(stream.frames, NUM_FRAMES)
        frames = {
            number: frame.to_ndarray(format="rgb24")
            for number, frame in enumerate(container.decode(stream))
            if number in wanted
        }
    return np.stack([frames[number] for number in wanted]).astype(np.uint8, copy=False)


def torchcodec_alone(path: Path) -> Frames:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    indices = list(frame_indices(len(decoder), NUM_FRAMES))
    frames: Frames = decoder.get_frames_at(indices).data.numpy()
    return frames


def cpu_seconds(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Medians of interleaved runs."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(RUNS):
        for name, run in contenders.items():
            started_s = time.process_time()
            run()
            taken[name].append(time.process_time() - started_s)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def decode_vs_best(videos: Sequence[Path]) -> tuple[float, float]:
    """Of the decoders auto and pyav."""
    readers: dict[str, Callable[[Path], Frames]] = {"pyav plainly": pyav_plainly}
    if decord_is_installed():
        readers["decord"] = decord_alone
    if importlib.util.find_spec("torchcodec") is not None:
        readers["torchcodec"] = torchcodec_alone
    else:
        print("torchcodec is not installed: not compared")
    peers = list(readers)
    readers["ours, auto"] = ours
    readers["ours, pyav"] = partial(ours, decoder="pyav")
    worst_auto = worst_pyav = 0.0
    for path in videos:
        expected = ours(path)
        for name, reader in readers.items():
            np.testing.assert_array_equal(reader(path), expected, name)
        seconds = cpu_seconds({name: partial(reader, path) for name, reader in readers.items()})
        best = min(seconds[name] for name in peers)
        words = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items())
        print(f"{path.name}: CPU seconds of {NUM_FRAMES} frames: {words}")
        worst_auto = max(worst_auto, seconds["ours, auto"] / best)
        worst_pyav = max(worst_pyav, seconds["ours, pyav"] / best)
    return worst_auto, worst_pyav


# ---- the pipeline ----


class WatchedDecoders(Decoders):
    """Knows how long it had something to do."""

    def __init__(self, setup: DecoderSetup, num_processes: int) -> None:
        super().__init__(setup, num_processes)
        self.num_processes = num_processes
        self.busy_s = 0.0
        self._busy_lock = threading.Lock()

    def read(self, path: Path, pixels: Path, fetch: Fetch | None = None) -> tuple[Done, bytes]:
        started_s = time.monotonic()
        try:
            return super().read(path, pixels, fetch)
        finally:
            with self._busy_lock:
                self.busy_s += time.monotonic() - started_s


def run_pipeline(folder: Path, video: Path, row_s: float) -> tuple[float, float, float]:
    """(engine's idle share, decoders' busy share, a decoder's seconds a video).

    Args:
        row_s: what the engine takes for one.
    """
    media = folder / f"many-{row_s}"
    media.mkdir()
    content = video.read_bytes()
    for number in range(NUM_VIDEOS):
        # A box that players skip makes the files distinct.
        box = (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big")
        (media / f"{number}.mp4").write_bytes(content + box)
    num_processes = len(os.sched_getaffinity(0))
    setup = DecoderSetup(VIDEO, CLIP, LIMITS)
    with WatchedDecoders(setup, num_processes) as decoders:
        preparer = MediaPreparer(
            media=open_store(str(media)),
            output=open_store(str(folder / "out")),
            decoders=decoders,
            limits=LIMITS,
            downloads_dir=folder,
            pixels_dir=folder,
            shared=SharedMedia(folder / "shared", 0),
        )
        with closing(MediaAhead(preparer, num_processes, max_ahead=4 + num_processes)) as ahead:
            names = [f"{number}.mp4" for number in range(NUM_VIDEOS)]
            with closing(ahead.begin(names)) as queue:
                Path(queue.take().ref.path).unlink()
                decoders.busy_s = 0.0
                started_s, idle_s = time.monotonic(), 0.0
                for _ in names[1:]:
                    waiting_s = time.monotonic()
                    taken = queue.take()
                    idle_s += time.monotonic() - waiting_s
                    time.sleep(row_s)  # the engine answers a row about it
                    Path(taken.ref.path).unlink()
                took_s = time.monotonic() - started_s
    media_s = decoders.busy_s / NUM_VIDEOS
    return idle_s / took_s, decoders.busy_s / took_s / num_processes, media_s


# ---- bytes and images ----


def bytes_read_share(folder: Path, path: Path) -> float:
    size_bytes = path.stat().st_size
    target = folder / "pieces.mp4"
    pieces = RangedDownload(open_store(str(path.parent)), path.name, target, size_bytes)
    with RangedFile(target, pieces.fetch) as file:
        fetch_needed(target, file, VIDEO, LIMITS)
    rules = MediaRules("video", NUM_FRAMES, None, "rgb", "pyav")
    whole, partly = (read_clip(each, rules, CLIP, LIMITS) for each in (path, target))
    np.testing.assert_array_equal(whole.pixels, partly.pixels)
    print(f"{path.name}: {pieces.num_bytes_read >> 20} of {size_bytes >> 20} MiB read")
    return pieces.num_bytes_read / size_bytes


def images_vs_pil(folder: Path) -> float:
    random = np.random.default_rng(2)
    small = Image.fromarray(random.integers(0, 256, (90, 160, 3), np.uint8))
    path = folder / "picture.jpg"
    small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=92)

    def pil() -> object:
        with Image.open(path) as image:
            return CLIP(np.asarray(image.convert("RGB"))[None])

    def read() -> object:
        return read_clip(path, IMAGE, CLIP, LIMITS)

    def often(run: Callable[[], object]) -> Callable[[], object]:
        return lambda: [run() for _ in range(20)]

    seconds = cpu_seconds({"ours": often(read), "pil": often(pil)})
    print(f"JPEGs a CPU second: ours {20 / seconds['ours']:.0f}, Pillow {20 / seconds['pil']:.0f}")
    return seconds["pil"] / seconds["ours"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="bm") as name:
        folder = Path(name)
        long_gop = write_720p(folder / "keys-every-250.mp4", 30, 250, "libx264", preset="ultrafast")
        short_gop = write_720p(folder / "keys-every-30.mp4", 30, 30, "libx264", preset="ultrafast")
        brief = write_720p(folder / "brief.mp4", 0.32, 8, "libx264", preset="ultrafast")
        large = write_720p(
            folder / "large.mp4", 30, 30, "mpeg4", noise_levels=150, b="60000000", qmin="1"
        )
        auto_ratio, pyav_ratio = decode_vs_best([long_gop, short_gop])
        idle_share, busy, media_s = run_pipeline(folder, brief, ROW_S)
        print(f"engine of {ROW_S:.2f} s: idle {idle_share:.2f}, decoders busy {busy:.2f}")
        slow_s = max(ROW_S, 2 * media_s / len(os.sched_getaffinity(0)))
        idle, slow_busy, _ = run_pipeline(folder, brief, slow_s)
        print(f"engine of {slow_s:.2f} s: idle {idle:.2f}, decoders busy {slow_busy:.2f}")
        share = bytes_read_share(folder, large)
        images = images_vs_pil(folder)
    print(
        f"bench-media: decode_vs_best={auto_ratio:.2f} engine_idle_share={idle_share:.2f} "
        f"bytes_read_share={share:.2f} images_per_s_vs_pil={images:.2f} decoders_busy={busy:.2f} "
        f"pyav_vs_best={pyav_ratio:.2f}"
    )


if __name__ == "__main__":
    main()
