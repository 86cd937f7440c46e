from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from neva.local_model import LocalModel
from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.nemo_writer import pack
from tests.worker.engine.rank_functions import Setup, num_parameters
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.cli import inspect_app
from worker.checkpoint.inspection import inspect_model

runner = CliRunner()


def test_a_compressed_nemo_is_described_whole(nemotron: Origin, tmp_path: Path) -> None:
    nemo = nemotron.nemo()
    nemo.layout, nemo.tp = "mp_rank", 2
    file = pack(nemo.write(tmp_path / "n"), tmp_path / "m.nemo", compress=True)
    done = runner.invoke(inspect_app, [str(file), "--vision-encoder", str(nemotron.tower)])
    assert done.exit_code == 0, done.output
    for words in (
        "ranks' files, TP 2, PP 1",
        "3 layers, hidden 128, 8 heads of 16 in 2 groups, mlp 512 (squared_relu)",
        "layernorm (stored less 1), 8 of 16 dimensions",
        "1000 ids, ends with [2]",
        "2 of a video, 32x32",
        "16 a frame, 32 a video",
        "memory, TP 8",
        "GiB with awq",
    ):
        assert words in done.output


def test_programs_get_the_same_facts(llama: Origin, tmp_path: Path) -> None:
    directory = llama.nemo().write(tmp_path / "n")
    arguments = [str(directory), "--vision-encoder", str(llama.tower), "-o", "json"]
    done = runner.invoke(inspect_app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    inspection = inspect_model(LocalModel(directory, vision=llama.tower), "bf16")
    assert found["template"] == dict(inspection.facts)["template"]
    assert [m["tensor_parallel_size"] for m in found["memory"]] == [1, 2, 4, 8]
    assert found["memory"][0]["weight_bytes_per_rank"] == inspection.weight_bytes_per_rank[1]


def test_what_is_wrong_is_said_in_one_line(llama: Origin, tmp_path: Path) -> None:
    nemo = llama.nemo()
    del nemo.tensors["model.decoder.final_layernorm.weight"]
    directory = nemo.write(tmp_path / "n")
    done = runner.invoke(inspect_app, [str(directory), "--vision-encoder", str(llama.tower)])
    assert done.exit_code == 2
    assert "InvalidCheckpoint" in done.output
    assert "missing decoder.final_layernorm.weight" in done.output


@pytest.mark.parametrize("name", ["llama", "nemotron", "qwen", "biased"])
def test_memory_is_reckoned_as_the_ranks_hold_it(
    name: str, pool: RankPool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    origin: Origin = request.getfixturevalue(name)
    directory = origin.nemo().write(tmp_path / "nemo")
    found = inspect_model(LocalModel(directory, vision=origin.tower), "fp32")
    held = pool.run(num_parameters, Setup(directory, vision_encoder=origin.tower))
    expected = found.weight_bytes_per_rank[len(held)]
    assert held[0] * torch.float32.itemsize == expected


def test_memory_of_stages_is_that_of_the_largest(llama: Origin, tmp_path: Path) -> None:
    directory = llama.nemo().write(tmp_path / "nemo")
    found = inspect_model(LocalModel(directory, vision=llama.tower), "fp32", num_stages=2)
    whole = inspect_model(LocalModel(directory, vision=llama.tower), "fp32")
    stages = RankPool(2, tmp_path, num_stages=2)
    try:
        held = stages.run(num_parameters, Setup(directory, vision_encoder=llama.tower))
    finally:
        stages.close()
    assert max(held) * torch.float32.itemsize == found.weight_bytes_per_rank[1]
    assert found.kv_bytes_per_token[1] * 3 == whole.kv_bytes_per_token[1] * 2  # 2 layers of 3
    command = [str(directory), "--vision-encoder", str(llama.tower), "--pipeline-parallel-size"]
    done = runner.invoke(inspect_app, [*command, "2"])
    assert "memory, TP 4, PP 2" in done.output
    done = runner.invoke(inspect_app, [*command, "4"])
    assert done.exit_code == 2
    assert "the model has 3 layers, fewer than one a stage" in done.output
