from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from demo.accuracy import measure
from demo.answerers import Row
from demo.clips import draw_clip
from demo.tiny_model import build_tokenizer, save_preparation


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    save_preparation(tmp_path, build_tokenizer())
    return tmp_path


class KnowsTheTruth:
    """Answers from the seed; `wrong_about` names videos whose last question it gets wrong."""

    def __init__(self, seed: int, wrong_about: set[str]) -> None:
        self._clips = {clip.name: clip for clip in (draw_clip(seed, i) for i in range(20))}
        self._wrong_about = wrong_about

    def answer(self, rows: Sequence[Row]) -> list[str]:
        answers = []
        for row in rows:
            assert row.pixels.shape == (8, 3, 64, 64)
            assert row.prompt.num_media_tokens == 128
            (right,) = {
                question.answer
                for question in self._clips[row.video].questions
                if f"<video>{question.text}" in row.prompt.text_with_tag
            }
            is_wrong = row.video in self._wrong_about and "It moves" in right
            answers.append(" It moves." if is_wrong else f" {right}</s>")
        return answers


def test_right_questions_and_wholly_right_clips_are_counted_apart(model_dir: Path) -> None:
    answerer = KnowsTheTruth(seed=2, wrong_about={"clip-001.mp4"})
    score = measure(answerer, model_dir, num_clips=18, seed=2, insert="left")
    assert (score.num_questions_right, score.num_questions) == (53, 54)
    assert (score.num_clips_right, score.num_clips) == (17, 18)
    assert str(score).startswith("questions right 0.9815 (53/54); clips right 0.9444 (17/18)")
    assert [mistake.split()[0] for mistake in score.mistakes] == ["clip-001.mp4"]
