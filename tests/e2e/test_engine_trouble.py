"""Too little memory, broken weights: some rows fail or the job is refused, and nothing hangs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from neva.tokens import Tokenizer
from tests.support.jobs import DEMO_MODEL, JobFolder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUESTIONS = [
    {"video": f"clip-{n % 3:03d}.mp4", "text": f"Which shape moves? {n}", "question_id": n}
    for n in range(9)
]
# 3 layers x keys and values x 4 heads x 32 numbers x 4 bytes.
BYTES_PER_TOKEN = 3 * 2 * 4 * 32 * 4


def broken_model(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    """A copy of the demo model with other weights."""
    model = folder / "model"
    shutil.copytree(DEMO_MODEL, model)
    weights = load_file(model / "model.safetensors")
    change(weights)
    save_file(weights, model / "model.safetensors")
    return model


def one_tensor(weights: dict[str, torch.Tensor], ending: str) -> torch.Tensor:
    (name,) = [name for name in weights if name.endswith(ending)]
    return weights[name]


def with_model(job: JobFolder, model: Path, ranks: int = 1) -> None:
    settings = {"uri": str(model), "precision": "fp32", "tensorParallelSize": ranks}
    job.spec["model"] = settings
    job.write_job()


def test_rows_share_a_small_cache_and_one_that_never_fits_fails_alone(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=3)
    job.write_prompts(QUESTIONS)
    assert job.run()[0] == 0
    expected = {row["question_id"]: row["response"] for row in job.lines("outputs.jsonl")}

    # One video with two of its questions has room, or two videos and no question.
    job.environment["NEVA_KV_CACHE_BYTES"] = str(384 * BYTES_PER_TOKEN)
    job.output_folder = "small"
    large = {"video": "clip-000.mp4", "text": "why " * 100, "question_id": "large"}
    job.write_prompts([*QUESTIONS[:4], large, *QUESTIONS[4:]])
    job.spec["failure"] = {"failOnError": 1}
    job.write_job()
    code, printed = job.run()
    assert code == 0, printed
    answered = {row["question_id"]: row["response"] for row in job.lines("outputs.jsonl")}
    assert answered == expected
    (error,) = job.lines("errors.jsonl")
    assert (error["question_id"], error["reason"]) == ("large", "OutOfMemory")
    assert "there is memory for 384" in error["message"]


@pytest.mark.slow
def test_an_embedding_that_is_not_finite_fails_the_rows_that_use_it_and_no_others(
    make_job: Callable[..., JobFolder], tmp_path: Path
) -> None:
    (token,) = Tokenizer.from_directory(DEMO_MODEL).encode("~")

    def spoil(weights: dict[str, torch.Tensor]) -> None:
        one_tensor(weights, "embed_tokens.weight")[token] = torch.nan

    job = make_job(num_clips=3)
    touched = [
        {**row, "text": f"{row['text']} ~", "question_id": f"~{n}"}
        for n, row in enumerate(QUESTIONS[:2])
    ]
    job.write_prompts([*QUESTIONS[:3], *touched, *QUESTIONS[3:]])
    job.spec["failure"] = {"failOnError": 2}
    with_model(job, broken_model(tmp_path, spoil), ranks=2)
    code, printed = job.run()
    assert code == 0, printed
    assert [row["question_id"] for row in job.lines("outputs.jsonl")] == list(range(9))
    errors = job.lines("errors.jsonl")
    assert [error["question_id"] for error in errors] == ["~0", "~1"]
    assert {error["reason"] for error in errors} == {"NumericalError"}
    assert "not finite" in errors[0]["message"]


def test_a_weight_that_every_row_meets_fails_all_rows_with_the_reason(
    make_job: Callable[..., JobFolder], tmp_path: Path
) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        one_tensor(weights, "layers.1.mlp.down_proj.weight")[3, 5] = torch.inf

    job = make_job(num_clips=2)
    with_model(job, broken_model(tmp_path, spoil))
    code, printed = job.run()
    assert code == 3, printed
    assert job.lines("outputs.jsonl") == []
    assert [error["reason"] for error in job.lines("errors.jsonl")] == ["NumericalError"] * 6


def test_an_engine_without_memory_for_one_token_is_refused_in_one_line(
    make_job: Callable[..., JobFolder],
) -> None:
    job = make_job(num_clips=1, environment={"NEVA_KV_CACHE_BYTES": "1000"})
    code, printed = job.run()
    assert code == 2, printed
    (line,) = [line for line in printed.splitlines() if "error" in line]
    assert "no memory for keys and values: 1000 bytes are there, one token takes 3072" in line


def test_a_checkpoint_with_a_misshapen_tensor_is_refused_in_one_line(
    make_job: Callable[..., JobFolder], tmp_path: Path
) -> None:
    def spoil(weights: dict[str, torch.Tensor]) -> None:
        (name,) = [name for name in weights if name.endswith("layers.1.mlp.down_proj.weight")]
        weights[name] = weights[name][:, :-1].contiguous()

    job = make_job(num_clips=1)
    with_model(job, broken_model(tmp_path, spoil), ranks=2)
    code, printed = job.run()
    assert code == 2, printed
    (line,) = [line for line in printed.splitlines() if "error" in line]
    assert "InvalidCheckpoint" in line
    assert "layers.1.mlp.down_proj.weight" in line
