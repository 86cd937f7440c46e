"""A job whose model is a NeMo checkpoint: the same answers as its Hugging Face original."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.jobs import DEMO_MODEL, JobFolder
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_projector_and_base_answer_as_the_original(
    make_job: Callable[..., JobFolder], tmp_path: Path
) -> None:
    paths = NemoPaths(tmp_path / "p.nemo", tmp_path / "tower", tmp_path / "base.nemo")
    convert_to_nemo(DEMO_MODEL, paths, "torch_dist", "v1")
    job = make_job(4, tensor_parallel_size=2)
    assert job.run()[0] == 0
    expected = job.lines("outputs.jsonl")
    job.spec = {
        "model": {
            "uri": "p.nemo",
            "baseModel": "base.nemo",
            "visionEncoder": "tower",
            "tensorParallelSize": 2,
            "precision": "fp32",
        }
    }
    job.output_folder = "nemo"
    job.write_job()
    code, printed = job.run()
    assert code == 0, printed
    found = job.lines("outputs.jsonl")
    assert len(found) == 12
    for key in ("question_id", "full_text", "response", "finish_reason", "num_prompt_tokens"):
        assert [row[key] for row in found] == [row[key] for row in expected]
