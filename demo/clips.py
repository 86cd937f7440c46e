"""Make the demo's input: `python -m demo.clips OUTDIR --clips 24 --seed 7`.

    videos/clip-000.mp4 …   H.264, 224x224, 24 frames per second, 32 to 64 frames
    prompts.jsonl           three questions a clip, in the guide's format
    context.jsonl           what happens in each clip, for a judge that can't see it
    reference.jsonl         the right answers as a competitor's answer file
    truth.jsonl             the right answers for counting

The same seed gives the same files; a clip does not depend on how many there are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from demo.questions import Question, ask, caption
from demo.scenes import Scene, random_scene, render

SIZE: Final = 224  # pixels
FRAMES_PER_SECOND: Final = 24
FEWEST_FRAMES, MOST_FRAMES = 32, 64
QUESTIONS_PER_CLIP: Final = 3


@dataclass(frozen=True, slots=True)
class Clip:
    """One generated clip and what may be asked about it; question ids count through all clips."""

    index: int
    scene: Scene
    num_frames: int
    questions: tuple[Question, ...]

    @property
    def name(self) -> str:
        return f"clip-{self.index:03d}.mp4"

    @property
    def question_ids(self) -> range:
        first = QUESTIONS_PER_CLIP * self.index
        return range(first, first + len(self.questions))


def draw_clip(seed: int, index: int) -> Clip:
    """Decide what clip number `index` shows."""
    rng = np.random.default_rng([seed, index])
    scene = random_scene(rng)
    return Clip(
        index=index,
        scene=scene,
        num_frames=int(rng.integers(FEWEST_FRAMES, MOST_FRAMES + 1)),
        questions=ask(rng, scene),
    )


def write_clips(out_dir: Path, num_clips: int, seed: int) -> list[Clip]:
    """Write all files of the module's docstring into `out_dir`; returns what was drawn."""
    videos_dir = out_dir / "videos"
    videos_dir.mkdir(parents=True, exist_ok=True)
    clips = [draw_clip(seed, index) for index in range(num_clips)]
    for clip in clips:
        times = np.linspace(0, 1, clip.num_frames).tolist()
        write_h264(videos_dir / clip.name, render(clip.scene, times, SIZE))
    asked = [
        (question_id, question, clip)
        for clip in clips
        for question_id, question in zip(clip.question_ids, clip.questions, strict=True)
    ]
    _write_jsonl(
        out_dir / "prompts.jsonl",
        (
            {
                "video": clip.name,
                "text": question.text,
                "category": question.category,
                "question_id": question_id,
            }
            for question_id, question, clip in asked
        ),
    )
    _write_jsonl(
        out_dir / "context.jsonl",
        ({"video": clip.name, "caption": caption(clip.scene)} for clip in clips),
    )
    _write_jsonl(
        out_dir / "reference.jsonl",
        ({"question_id": number, "text": question.answer} for number, question, _ in asked),
    )
    _write_jsonl(
        out_dir / "truth.jsonl",
        ({"question_id": number, "answer": question.answer} for number, question, _ in asked),
    )
    return clips


def write_h264(path: Path, frames: NDArray[np.uint8]) -> None:
    """Encode frames (num_frames, height, width, 3) as a camera or an editor would."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        if not isinstance(stream, VideoStream):
            raise TypeError("libx264 is a video codec")
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        # One thread: with more, x264 may cut its slices elsewhere and give other bytes.
        stream.options = {"crf": "26", "preset": "veryfast", "x264-params": "threads=1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUTDIR")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    clips = write_clips(arguments.out, arguments.clips, arguments.seed)
    num_questions = sum(len(clip.questions) for clip in clips)
    print(f"{arguments.out}: {len(clips)} clips, {num_questions} questions")


if __name__ == "__main__":
    main()
