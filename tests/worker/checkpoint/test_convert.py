"""Conversion to NeMo and back loses no bit, and what it writes is the same model."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.reasons import Reason
from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.test_nemo_layouts import MAX_LOGIT_DIFFERENCE, difference
from tests.worker.engine.models import make_llava
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.hf_llava_layout import canonical_name
from worker.checkpoint.nemo_output import WeightsFormat
from worker.checkpoint.to_hf import convert_to_hf
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo

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
