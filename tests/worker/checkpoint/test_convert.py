"""Conversion to NeMo and back loses no bit, and what it writes is the same model."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.reasons import Reason
from tests.worker.checkpoint.conftest import LLAMA_3_ROPE, Origin
from tests.worker.checkpoint.test_nemo_layouts import MAX_LOGIT_DIFFERENCE, difference
from tests.worker.engine.models import make_llava
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.cli import convert_app
from worker.checkpoint.hf_llava_config import read_llava_shape
from worker.checkpoint.hf_llava_layout import canonical_name
from worker.checkpoint.nemo_output import WeightsFormat
from worker.checkpoint.to_hf import convert_to_hf
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen2, siglip": {"text_model": "qwen2", "tower": "siglip"},
    "biases, llama 3 rotary": {
        "attention_bias": True,
        "mlp_bias": True,
        "rope_parameters": LLAMA_3_ROPE,
    },
    "linear rotary": {
        "rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
    },
}

FORMATS: tuple[WeightsFormat, ...] = ("torch_dist", "legacy")


def weights_of(directory: Path) -> dict[str | None, torch.Tensor]:
    return {canonical_name(n): t for n, t in load_file(directory / "model.safetensors").items()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("weights_format", FORMATS)
@pytest.mark.parametrize("apart", [False, True], ids=["finetuned", "projector and base"])
def test_there_and_back_is_bit_exact(
    apart: bool, weights_format: WeightsFormat, ties: bool, tmp_path: Path
) -> None:
    source = make_llava(
        tmp_path / "hf", dtype=torch.bfloat16, vocab_size=1003, tie_word_embeddings=ties
    )
    base = tmp_path / "base.nemo" if apart else None
    paths = NemoPaths(tmp_path / "model.nemo", tmp_path / "tower", base)
    convert_to_nemo(source.directory, paths, weights_format, "v1")
    nemo = LocalModel(paths.model, paths.base, paths.vision)
    convert_to_hf(nemo, tmp_path / "back")

    before, after = weights_of(source.directory), weights_of(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype == torch.bfloat16
        assert torch.equal(after[name], tensor), name
    original, returned = LocalModel(source.directory).profile(), LocalModel(tmp_path / "back")
    assert returned.profile() == original
    assert returned.tokenizer().vocab_size == LocalModel(source.directory).tokenizer().vocab_size
    if apart:
        assert paths.model.stat().st_size < 200_000  # the projector alone


def test_the_command_tells_what_it_wrote(tmp_path: Path) -> None:
    source = make_llava(tmp_path / "hf")
    model, tower = tmp_path / "m.nemo", tmp_path / "m-vision"
    done = CliRunner().invoke(convert_app, [str(source.directory), str(model), "-o", "json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"wrote": {"model": str(model), "vision": str(tower)}}
    back = [str(model), str(tmp_path / "back"), "--vision-encoder", str(tower)]
    assert CliRunner().invoke(convert_app, back).stdout == f"wrote {tmp_path / 'back'}\n"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_other_architectures_come_back_bit_exact(architecture: str, tmp_path: Path) -> None:
    source = make_llava(tmp_path / "hf", dtype=torch.bfloat16, **ARCHITECTURES[architecture])
    paths = NemoPaths(tmp_path / "model.nemo", tmp_path / "tower")
    convert_to_nemo(source.directory, paths, "torch_dist", "v1")
    convert_to_hf(LocalModel(paths.model, None, paths.vision), tmp_path / "back")
    before, after = weights_of(source.directory), weights_of(tmp_path / "back")
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert LocalModel(tmp_path / "back").profile() == LocalModel(source.directory).profile()
    shapes = [read_llava_shape(path) for path in (source.directory, tmp_path / "back")]
    assert shapes[0].language == shapes[1].language


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rope_parameters": LLAMA_3_ROPE | {"factor": 32.0}}, "'llama3' with its numbers"),
        ({"mlp_bias": True}, "or on the MLP alone"),
    ],
)
def test_what_nemo_has_not_is_refused(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    source = make_llava(tmp_path / "hf", **options)
    with pytest.raises(ConfigError, match=words) as raised:
        convert_to_nemo(
            source.directory, NemoPaths(tmp_path / "m.nemo", tmp_path / "tower"), "legacy", "v1"
        )
    assert raised.value.reason is Reason.UNSUPPORTED_MODEL
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize("weights_format", FORMATS)
def test_what_is_written_equals_transformers(
    weights_format: WeightsFormat, llama: Origin, pool: RankPool, tmp_path: Path
) -> None:
    paths = NemoPaths(tmp_path / "model.nemo", tmp_path / "tower", tmp_path / "base")
    convert_to_nemo(llama.model.directory, paths, weights_format, "v1")
    found = difference(pool, llama, paths.model, tower=paths.vision, base=paths.base)
    assert found <= MAX_LOGIT_DIFFERENCE


def test_the_archive_is_as_nemo_writes_it_and_the_same_every_time(
    llama: Origin, tmp_path: Path
) -> None:
    files = []
    for number in range(2):
        paths = NemoPaths(tmp_path / f"{number}.nemo", tmp_path / f"tower-{number}")
        convert_to_nemo(llama.model.directory, paths, "legacy", "v1")
        files.append(paths.model)
    with tarfile.open(files[0], "r:") as tar:
        names = tar.getnames()
    assert all(name.startswith("./") for name in names)
    assert {"./model_config.yaml", "./model_weights.ckpt"} < set(names)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert not [path for path in tmp_path.iterdir() if "unfinished" in path.name]


def test_nothing_is_overwritten(llama: Origin, tmp_path: Path) -> None:
    paths = NemoPaths(tmp_path / "model.nemo", tmp_path / "tower")
    (tmp_path / "tower").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        convert_to_nemo(llama.model.directory, paths, "legacy", "v1")
    assert [path.name for path in tmp_path.iterdir()] == ["tower"]


def test_what_llama_is_not_is_refused(nemotron: Origin, tmp_path: Path) -> None:
    directory = nemotron.nemo().write(tmp_path / "nemo")
    with pytest.raises(ConfigError) as raised:
        convert_to_hf(LocalModel(directory, vision=nemotron.tower), tmp_path / "hf")
    assert raised.value.reason is Reason.UNSUPPORTED_MODEL
    for words in ("normalization", "squared_relu", "partial rotary"):
        assert words in raised.value.message
    assert not (tmp_path / "hf").exists()
