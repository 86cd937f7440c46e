from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.clips import FEWEST_FRAMES, MOST_FRAMES, SIZE, write_clips
from demo.scenes import render
from worker.media.decode import open_video


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, num_clips=4, seed=11)
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_have_the_guides_keys_and_three_categories(made: Path) -> None:
    prompts = read(made / "prompts.jsonl")
    assert [prompt["question_id"] for prompt in prompts] == list(range(12))
    assert all(list(row) == ["video", "text", "category", "question_id"] for row in prompts)
    assert [prompt["category"] for prompt in prompts[:3]] == ["conv", "detail", "complex"]
    assert {prompt["video"] for prompt in prompts} == {
        path.name for path in (made / "videos").iterdir()
    }


def test_every_question_has_its_truth_and_its_reference_and_every_clip_its_context(
    made: Path,
) -> None:
    truth, reference = read(made / "truth.jsonl"), read(made / "reference.jsonl")
    assert [(row["question_id"], row["answer"]) for row in truth] == [
        (row["question_id"], row["text"]) for row in reference
    ]
    assert [row["question_id"] for row in truth] == list(range(12))
    assert [row["video"] for row in read(made / "context.jsonl")] == [
        f"clip-{index:03d}.mp4" for index in range(4)
    ]


def test_the_files_are_h264_and_show_the_scene(tmp_path: Path) -> None:
    (clip,) = write_clips(tmp_path, num_clips=1, seed=5)
    reader = open_video(tmp_path / "videos" / clip.name)
    assert FEWEST_FRAMES <= reader.num_frames == clip.num_frames <= MOST_FRAMES
    frames = reader.get_frames([0, clip.num_frames - 1])
    assert frames.shape == (2, SIZE, SIZE, 3)
    painted = render(clip.scene, [0, 1], SIZE)
    assert np.abs(frames.astype(int) - painted).mean() < 4


def test_the_same_seed_makes_the_same_bytes_whatever_the_number_of_clips(
    made: Path, tmp_path: Path
) -> None:
    write_clips(tmp_path, num_clips=2, seed=11)
    for name in ("clip-000.mp4", "clip-001.mp4"):
        assert (tmp_path / "videos" / name).read_bytes() == (made / "videos" / name).read_bytes()
    few, many = ((folder / "prompts.jsonl").read_text().splitlines() for folder in (tmp_path, made))
    assert few == many[:6]
