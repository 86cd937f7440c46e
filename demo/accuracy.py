"""Measure the demo model on fresh clips: `python -m demo.accuracy --clips 500 --seed 1234`.

Every clip goes the whole way: encoded as H.264, decoded by `worker.media.decode`, frames by the
reference rule, preprocessed, asked through the project's prompts. An answer counts when it equals
the truth to the last character.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from demo.answerers import Answerer, Row, TransformersAnswerer
from demo.clips import Clip, write_clips
from demo.engine_answerer import running_engine
from neva.frames import frame_indices
from neva.model_profile import ModelProfile, read_model_profile, template_of
from neva.prompting import build_prompt
from neva.templates import InsertMedia
from neva.tokens import Tokenizer
from worker.media.decode import open_video
from worker.media.preprocess import from_profile

MODEL_DIR: Final = Path(__file__).parent / "model"
_CLIPS_PER_BATCH: Final = 16


@dataclass(slots=True)
class Score:
    """What was right, of all questions and of all clips (a clip is right when all three are)."""

    num_questions: int = 0
    num_questions_right: int = 0
    num_clips: int = 0
    num_clips_right: int = 0
    right_in: Counter[str] = field(default_factory=Counter)
    asked_in: Counter[str] = field(default_factory=Counter)
    mistakes: list[str] = field(default_factory=list)

    def add(self, clip: Clip, answers: list[str]) -> None:
        """Count one clip's cleaned answers."""
        num_right = 0
        for question, given in zip(clip.questions, answers, strict=True):
            is_right = given == question.answer
            num_right += is_right
            self.asked_in[question.category] += 1
            self.right_in[question.category] += is_right
            if not is_right:
                self.mistakes.append(
                    f"{clip.name} {question.text} {given!r} != {question.answer!r}"
                )
        self.num_questions += len(clip.questions)
        self.num_questions_right += num_right
        self.num_clips += 1
        self.num_clips_right += num_right == len(clip.questions)

    def __str__(self) -> str:
        parts = [
            f"questions right {self.num_questions_right / self.num_questions:.4f} "
            f"({self.num_questions_right}/{self.num_questions})",
            f"clips right {self.num_clips_right / self.num_clips:.4f} "
            f"({self.num_clips_right}/{self.num_clips})",
            *(f"{name} {self.right_in[name] / asked:.4f}" for name, asked in self.asked_in.items()),
        ]
        return "; ".join(parts)


def measure(
    answerer: Answerer, model_dir: Path, num_clips: int, seed: int, insert: InsertMedia
) -> Score:
    """Generate clips into a temporary folder, ask all their questions, count."""
    profile = read_model_profile(model_dir)
    tokenizer = Tokenizer.from_directory(model_dir)
    clean = template_of(profile).clean
    score = Score()
    with tempfile.TemporaryDirectory(prefix="neva-accuracy-") as folder:
        clips = write_clips(Path(folder), num_clips, seed)
        for start in range(0, num_clips, _CLIPS_PER_BATCH):
            some = clips[start : start + _CLIPS_PER_BATCH]
            rows = [
                row
                for clip in some
                for row in _rows(clip, Path(folder), profile, tokenizer, insert)
            ]
            answers = iter([clean(text) for text in answerer.answer(rows)])
            for clip in some:
                score.add(clip, [next(answers) for _ in clip.questions])
    return score


def _rows(
    clip: Clip, folder: Path, profile: ModelProfile, tokenizer: Tokenizer, insert: InsertMedia
) -> Iterator[Row]:
    pixels = _pixels(folder / "videos" / clip.name, profile)
    for question in clip.questions:
        prompt = build_prompt(question.text, "video", insert, profile, tokenizer, len(pixels))
        yield Row(clip.name, prompt, pixels)


def _pixels(path: Path, profile: ModelProfile) -> NDArray[np.float32]:
    reader = open_video(path)
    try:
        frames = reader.get_frames(frame_indices(reader.num_frames, profile.num_frames))
    finally:
        reader.close()
    return from_profile(profile)(frames)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=MODEL_DIR)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--insert", choices=("left", "right"), default="left")
    parser.add_argument("--engine", choices=("neva", "transformers"), default="neva")
    parser.add_argument("--tensor-parallel", type=int, default=1, help="ranks of the neva engine")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    torch.set_num_threads(1)
    with ExitStack() as stack:
        answerer: Answerer
        if arguments.engine == "neva":
            answerer = stack.enter_context(
                running_engine(arguments.model, arguments.tensor_parallel)
            )
        else:
            answerer = TransformersAnswerer(arguments.model)
        score = measure(
            answerer, arguments.model, arguments.clips, arguments.seed, arguments.insert
        )
    for mistake in score.mistakes[:10]:
        print(mistake)
    print(f"{arguments.engine}, media {arguments.insert}, seed {arguments.seed}: {score}")


if __name__ == "__main__":
    main()
