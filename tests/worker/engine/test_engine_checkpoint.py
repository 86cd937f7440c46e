"""A checkpoint is loaded whole and as it is, or refused with every tensor that is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from neva.errors import ConfigError
from neva.reasons import Reason
from tests.worker.engine.models import TinyLlava, make_request, reference_answer, write_media
from tests.worker.engine.rank_functions import Setup, last_logits
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.hf_llava import open_llava
from worker.checkpoint.hf_llava_config import read_llava_shape

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def directory(model: TinyLlava, tmp_path: Path) -> Path:
    """A copy of the model to spoil."""
    copy = tmp_path / "model"
    shutil.copytree(model.directory, copy)
    return copy


def change_tensors(directory: Path, change: Callable[[Tensors], Tensors | None]) -> None:
    file = directory / "model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors) or tensors, file)


def change_config(directory: Path, **changes: object) -> None:
    """Set keys of config.json; "section.key" reaches into a section."""
    file = directory / "config.json"
    config = json.loads(file.read_text())
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[key] = value
    file.write_text(json.dumps(config))


def refusal(directory: Path) -> ConfigError:
    """The error of opening the directory."""
    with pytest.raises(ConfigError) as raised, open_directory(directory):
        pass
    return raised.value


@contextmanager
def open_directory(directory: Path) -> Iterator[None]:
    with open_llava(directory):
        yield


# ---- names ----


def published_names(tensors: Tensors) -> Tensors:
    """As in the published llava-1.5 files (transformers before 4.52)."""
    renamed = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("model.")
        if name.startswith("language_model."):
            name = "language_model.model." + name.removeprefix("language_model.")
        elif name.startswith("lm_head."):
            name = "language_model." + name
        elif name.startswith("vision_tower."):
            name = "vision_tower.vision_model." + name.removeprefix("vision_tower.")
        renamed[name] = tensor
    renamed["vision_tower.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    renamed["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    return renamed


def test_old_names_and_several_files_load_the_same_model(
    pool: RankPool, model: TinyLlava, directory: Path, tmp_path: Path
) -> None:
    tensors = published_names(load_file(directory / "model.safetensors"))
    assert "language_model.model.layers.2.mlp.up_proj.weight" in tensors
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, directory / file)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

    request = make_request("row", 9, media=write_media(tmp_path / "video", 2, seed=1))
    expected, _ = reference_answer(model, request)
    found = pool.run(last_logits, Setup(directory), request)[0]
    assert float(np.abs(found - expected.numpy()).max()) <= 1e-5


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_a_stored_head_goes_before_a_tied_embedding(
    pool: RankPool, model: TinyLlava, directory: Path, tmp_path: Path
) -> None:
    """As in transformers, which ties only what is missing or equal."""
    change_config(directory, tie_word_embeddings=True, text_config__tie_word_embeddings=True)
    request = make_request("row", 9, media=write_media(tmp_path / "video", 2, seed=1))
    expected, _ = reference_answer(model, request)
    found = pool.run(last_logits, Setup(directory), request)[0]
    assert float(np.abs(found - expected.numpy()).max()) <= 1e-5


def test_rotary_scaling_is_read_under_its_old_name(directory: Path) -> None:
    """`rope_theta` and `rope_scaling`, as transformers before 5 wrote them."""
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    change_config(directory, text_config__rope_parameters={"rope_theta": 5e5, **scaling})
    expected = read_llava_shape(directory).language
    config = json.loads((directory / "config.json").read_text())
    del config["text_config"]["rope_parameters"]
    config["text_config"] |= {"rope_theta": 5e5, "rope_scaling": scaling}
    (directory / "config.json").write_text(json.dumps(config))
    assert read_llava_shape(directory).language == expected
    assert expected.inverse_frequencies[-1] < 5e5 ** (-14 / 16) / 7


# ---- wrong tensors ----


def test_every_missing_unexpected_and_misshapen_tensor_is_named_at_once(directory: Path) -> None:
    removed = "model.vision_tower.encoder.layers.2.layer_norm2.bias"  # of a layer not even used
    renamed = "model.language_model.layers.1.mlp.up_proj.weight"
    reshaped = "model.multi_modal_projector.linear_1.weight"

    def spoil(tensors: Tensors) -> None:
        del tensors[removed]
        tensors["model.language_model.layers.1.mlp.up.weight"] = tensors.pop(renamed)
        tensors[reshaped] = tensors[reshaped].T.contiguous()

    change_tensors(directory, spoil)
    error = refusal(directory)
    assert error.reason == Reason.INVALID_CHECKPOINT
    assert not error.retryable
    assert "missing vision_tower.encoder.layers.2.layer_norm2.bias" in error.message
    assert "missing language_model.layers.1.mlp.up_proj.weight" in error.message
    assert "unexpected model.language_model.layers.1.mlp.up.weight" in error.message
    assert f"{reshaped} has shape (128, 64), expected" not in error.message
    assert f"{reshaped} has shape (64, 128), expected (128, 64)" in error.message


def test_a_tensor_under_both_its_names_is_refused(directory: Path) -> None:
    def double(tensors: Tensors) -> None:
        tensors["language_model.lm_head.weight"] = tensors["lm_head.weight"].clone()

    change_tensors(directory, double)
    assert "language_model.lm_head.weight" in refusal(directory).message


def test_another_vocabulary_than_the_configuration_says_is_refused(directory: Path) -> None:
    change_config(directory, text_config__vocab_size=1008)
    message = refusal(directory).message
    assert "embed_tokens.weight has shape (1000, 128), expected (1008, 128)" in message
    assert "lm_head.weight has shape (1000, 128), expected (1008, 128)" in message


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_is_no_safetensors_is_refused(directory: Path, content: bytes) -> None:
    (directory / "model.safetensors").write_bytes(content)
    error = refusal(directory)
    assert error.reason == Reason.INVALID_CHECKPOINT
    assert str(directory) in error.message


def test_a_directory_without_weights_is_refused(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    assert "has no model.safetensors" in refusal(directory).message
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert "model-00001-of-00002.safetensors" in refusal(directory).message
    index.write_text("[]")
    assert "no index" in refusal(directory).message


# ---- wrong architectures ----


def test_every_part_of_the_architecture_that_is_not_supported_is_named(directory: Path) -> None:
    change_config(
        directory,
        projector_hidden_act="relu",
        vision_feature_layer=[-2, -5],
        text_config__rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
        text_config__hidden_act="gelu",
    )
    error = refusal(directory)
    assert error.reason == Reason.UNSUPPORTED_MODEL
    for part in ("projector_hidden_act", "vision_feature_layer", "dynamic", "hidden_act"):
        assert part in error.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "llava_next"}, "llava_next"),
        ({"text_config__model_type": "gemma"}, "gemma"),
        (
            {"text_config__model_type": "mistral", "text_config__sliding_window": 100},
            "sliding_window 100",
        ),
        ({"vision_config__model_type": "siglip2_vision_model"}, "siglip2"),
        ({"vision_config__model_type": "dinov2"}, "dinov2"),
        ({"vision_feature_layer": -5}, "vision_feature_layer -5"),
        (
            {
                "text_config__rope_parameters": {
                    "rope_type": "dynamic",
                    "rope_theta": 1e4,
                    "factor": 2.0,
                }
            },
            "dynamic",
        ),
    ],
)
def test_another_architecture_is_refused(
    directory: Path, changes: dict[str, object], words: str
) -> None:
    change_config(directory, **changes)
    error = refusal(directory)
    assert error.reason == Reason.UNSUPPORTED_MODEL
    assert words in error.message


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"model_type": "llava", "text_config": "llama"}',
        '{"model_type": "llava", "text_config": {"model_type": "llama", "hidden_size": "big"}}',
        '{"model_type": "llava", "text_config": {"model_type": "no such"}}',
    ],
)
def test_a_config_that_cannot_be_read_is_refused(directory: Path, content: str | None) -> None:
    file = directory / "config.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    error = refusal(directory)
    assert error.reason == Reason.INVALID_CHECKPOINT
    assert "config.json" in error.message
