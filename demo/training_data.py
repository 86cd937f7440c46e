"""Endless training examples: scenes drawn from a seed, seen through the project's own eyes.

Frames by `neva.frames`, pixels by `worker.media.preprocess`, ids by `neva.prompting`. Only the
frames that the rule picks are painted. A JPEG round trip stands in for the video codec.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from demo.packing import Conversation, PackedBatch, pack
from demo.questions import QUESTIONS, Kind, answer
from demo.scenes import Scene, random_scene, render
from demo.tiny_model import EOS_ID, PAD_ID
from neva.frames import frame_indices
from neva.model_profile import read_model_profile
from neva.prompting import Prompt, build_prompt
from neva.templates import InsertMedia
from neva.tokens import Tokenizer
from worker.media.preprocess import from_profile

_FRAMES_IN_FILE: Final = (24, 72)  # shortest and longest clip
_RENDER_SIZES: Final = (80, 96, 128)  # pixels


@dataclass(frozen=True, slots=True)
class Example:
    """A batch: its scenes, the tower's input and the packed sequences."""

    scenes: list[Scene]
    pixels: torch.Tensor
    batch: PackedBatch


class TrainingData:
    """Makes batches; the same seed gives the same batches in the same order."""

    def __init__(self, model_dir: Path, seed: int) -> None:
        self.model_dir = model_dir
        self.profile = read_model_profile(model_dir)
        self.tokenizer = Tokenizer.from_directory(model_dir)
        self._preprocess = from_profile(self.profile)
        self._rng = np.random.default_rng(seed)
        self._answers: dict[str, tuple[int, ...]] = {}
        self._prompts: dict[tuple[str, InsertMedia], Prompt] = {}

    def frame(self, bystander_share: float) -> tuple[Scene, float, torch.Tensor]:
        """One frame of a new scene at a random time, as the tower's input (3, h, w)."""
        scene = random_scene(self._rng, bystander_share)
        time = float(self._rng.random())
        pixels = self._preprocess(self._photograph(scene, [time]))
        return scene, time, torch.from_numpy(pixels[0])

    def batch(self, num_clips: int, insert: InsertMedia, bystander_share: float = 0.5) -> Example:
        """`num_clips` new clips.

        With the media on the left every clip is asked all kinds of question. With the media on the
        right nothing but the system sentence is shared, so it is asked one.
        """
        kinds = list(QUESTIONS)
        scenes, pixels, conversations = [], [], []
        for _ in range(num_clips):
            scene = random_scene(self._rng, bystander_share)
            num_in_file = int(self._rng.integers(_FRAMES_IN_FILE[0], _FRAMES_IN_FILE[1] + 1))
            indices = frame_indices(num_in_file, self.profile.num_frames)
            times = [index / (num_in_file - 1) for index in indices]
            pixels.append(self._preprocess(self._photograph(scene, times)))
            scenes.append(scene)
            asked = kinds if insert == "left" else [kinds[int(self._rng.integers(len(kinds)))]]
            conversations.append(self._converse(scene, asked, insert))
        return Example(
            scenes=scenes,
            pixels=torch.from_numpy(np.concatenate(pixels)),
            batch=pack(conversations, self.profile.image_token_id, PAD_ID),
        )

    def _converse(self, scene: Scene, kinds: list[Kind], insert: InsertMedia) -> Conversation:
        prompts, answers = [], []
        for kind in kinds:
            wordings = QUESTIONS[kind]
            question = wordings[int(self._rng.integers(len(wordings)))]
            prompts.append(self._prompt(question, insert))
            answers.append(self._answer_ids(answer(scene, kind)))
        return Conversation(tuple(prompts), tuple(answers))

    def _prompt(self, question: str, insert: InsertMedia) -> Prompt:
        key = (question, insert)
        if key not in self._prompts:
            self._prompts[key] = build_prompt(
                question, "video", insert, self.profile, self.tokenizer, self.profile.num_frames
            )
        return self._prompts[key]

    def _answer_ids(self, text: str) -> tuple[int, ...]:
        if text not in self._answers:
            # The prompt ends in "ASSISTANT:", so the answer brings the space.
            self._answers[text] = (*self.tokenizer.encode(f" {text}"), EOS_ID)
        return self._answers[text]

    def _photograph(self, scene: Scene, times: list[float]) -> NDArray[np.uint8]:
        """Paint the frames and wear them out a little, as cameras and codecs do."""
        size = int(self._rng.choice(_RENDER_SIZES))
        frames = render(scene, times, size)
        if self._rng.random() < 0.3:
            noise = self._rng.integers(-8, 9, frames.shape[1:], dtype=np.int16)
            frames = np.clip(frames + noise, 0, 255).astype(np.uint8)
        if self._rng.random() < 0.6:
            frames = _jpeg_round_trip(frames, quality=int(self._rng.integers(30, 90)))
        return frames


def _jpeg_round_trip(frames: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Block noise and halved chroma; the frames of a clip share one picture."""
    num_frames, height, width, _ = frames.shape
    file = io.BytesIO()
    Image.fromarray(frames.reshape(num_frames * height, width, 3)).save(
        file, "JPEG", quality=quality
    )
    return np.asarray(Image.open(file)).reshape(frames.shape)
