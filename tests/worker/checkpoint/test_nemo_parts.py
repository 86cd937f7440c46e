"""Projector and base apart, adapters, projectors of other kinds, towers wherever they lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, linear, pad

from neva.errors import ConfigError
from neva.local_model import LocalModel
from neva.reasons import Reason
from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.nemo_writer import (
    PROJECTOR,
    Nemo,
    config_of,
    language_tensors,
    projector_tensors,
    write_tower,
)
from tests.worker.checkpoint.test_nemo_layouts import MAX_LOGIT_DIFFERENCE, difference
from tests.worker.engine.models import reference_answer
from tests.worker.engine.rank_functions import Setup, last_logits
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.open import open_checkpoint
from worker.engine.projector import merge_blocks

HIDDEN, TOWER_HIDDEN = 128, 64


def projector_only(origin: Origin) -> Nemo:
    nemo = origin.nemo()
    nemo.tensors = projector_tensors(origin.model.reference)
    nemo.config["mm_cfg"]["llm"] |= {"freeze": True, "from_pretrained": "/pwd/base.nemo"}
    return nemo


def base_of(origin: Origin) -> Nemo:
    config = config_of(origin.model.reference)
    for key in ("mm_cfg", "data"):
        del config[key]
    return Nemo(config, language_tensors(origin.model.reference))


@pytest.mark.parametrize("pool", [1, 2], indirect=True)
@pytest.mark.parametrize("padding", [1, 4])
def test_projector_and_base_are_one_model(
    padding: int, llama: Origin, pool: RankPool, tmp_path: Path
) -> None:
    """The base may have another layout, and another padding of the vocabulary."""
    model = projector_only(llama).write(tmp_path / "projector")
    base = base_of(llama)
    base.layout, base.tp = ("torch_dist", padding)
    directory = base.write(tmp_path / "base")
    assert difference(pool, llama, model, base=directory) <= MAX_LOGIT_DIFFERENCE


def opening(path: Path, tower: Path | None, base: Path | None = None) -> ConfigError:
    with (
        pytest.raises(ConfigError) as raised,
        open_checkpoint(LocalModel(path, base, tower)),
    ):
        pass
    return raised.value


def test_a_missing_or_superfluous_part_is_named(llama: Origin, tmp_path: Path) -> None:
    projector = projector_only(llama).write(tmp_path / "projector")
    base = base_of(llama).write(tmp_path / "base")
    whole = llama.nemo().write(tmp_path / "whole")
    without_base = opening(projector, llama.tower)
    assert "model.baseModel" in without_base.message
    assert "/pwd/base.nemo" in without_base.message
    assert "leave model.baseModel out" in opening(whole, llama.tower, base).message
    without_tower = opening(whole, None)
    assert "model.visionEncoder" in without_tower.message
    assert "openai/clip-vit-large-patch14" in without_tower.message
    assert "no NeVA" in opening(base, llama.tower).message
    with pytest.raises(ConfigError, match=r"leave model\.baseModel"):
        LocalModel(llama.model.directory, base=base).profile()


def test_a_base_of_another_architecture_is_refused(llama: Origin, tmp_path: Path) -> None:
    projector = projector_only(llama).write(tmp_path / "projector")
    base = base_of(llama)
    base.config |= {"ffn_hidden_size": 1024, "activation": "squared-relu"}
    error = opening(projector, llama.tower, base.write(tmp_path / "base"))
    assert error.reason is Reason.INVALID_CHECKPOINT
    assert "ffn_size is 512 and 1024" in error.message
    assert "activation is 'silu' and 'squared_relu'" in error.message


# ---- adapters ----


@pytest.mark.parametrize("tp", [1, 2])
def test_adapters_are_merged_into_queries_keys_and_values(
    tp: int, llama: Origin, pool: RankPool, tmp_path: Path, generator: torch.Generator
) -> None:
    base = base_of(llama)
    nemo = projector_only(llama)
    nemo.config["peft"] = {
        "peft_scheme": "lora",
        "lora_tuning": {"adapter_dim": 8, "alpha": 16, "target_modules": ["attention_qkv"]},
    }
    nemo.layout, nemo.tp = ("mp_rank" if tp > 1 else "single", tp)
    merged = llama.nemo()
    for layer in range(3):
        prefix = f"model.decoder.layers.{layer}.self_attention."
        inner = torch.randn(8, HIDDEN, generator=generator) * 0.1
        outer = torch.randn(256, 8, generator=generator) * 0.1
        nemo.tensors[f"{prefix}adapter_layer.lora_kqv_adapter.linear_in.weight"] = inner
        nemo.tensors[f"{prefix}adapter_layer.lora_kqv_adapter.linear_out.weight"] = outer
        merged.tensors[f"{prefix}linear_qkv.weight"] += 2.0 * outer @ inner
    adapted = nemo.write(tmp_path / "adapted")
    base_path = base.write(tmp_path / "base")
    expected_path = merged.write(tmp_path / "merged")
    expected, found = (
        pool.run(last_logits, setup, llama.request)[0]
        for setup in (
            Setup(expected_path, vision_encoder=llama.tower),
            Setup(adapted, vision_encoder=llama.tower, base_model=base_path),
        )
    )
    assert float(np.abs(found - expected).max()) <= MAX_LOGIT_DIFFERENCE
    assert float(np.abs(found - llama.logits[: len(found)]).max()) > 0.01


# ---- projectors ----


class LinearReference(nn.Module):
    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.tensors = tensors

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return linear(features, self.tensors["weight"], self.tensors["bias"])


class DownsampleReference(LinearReference):
    """Blocks gathered one by one."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames, patches, channels = features.shape
        side = round(patches**0.5)
        grid = features.reshape(frames, side, side, channels)
        blocks = [
            torch.cat([grid[:, r + dr, c + dc] for dr in (0, 1) for dc in (0, 1)], dim=-1)
            for c in range(0, side, 2)
            for r in range(0, side, 2)
        ]
        t = self.tensors
        x = layer_norm(torch.stack(blocks, 1), (4 * channels,), t["1.weight"], t["1.bias"])
        hidden = gelu(linear(x, t["2.weight"], t["2.bias"]))
        return linear(hidden, t["4.weight"], t["4.bias"])


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize("kind", ["linear", "mlp_downsample"])
def test_other_projectors_equal_a_plain_reckoning(
    kind: str, llama: Origin, pool: RankPool, tmp_path: Path, generator: torch.Generator
) -> None:
    sizes = {
        "linear": {"weight": (HIDDEN, TOWER_HIDDEN), "bias": (HIDDEN,)},
        "mlp_downsample": {
            "1.weight": (4 * TOWER_HIDDEN,),
            "1.bias": (4 * TOWER_HIDDEN,),
            "2.weight": (HIDDEN, 4 * TOWER_HIDDEN),
            "2.bias": (HIDDEN,),
            "4.weight": (HIDDEN, HIDDEN),
            "4.bias": (HIDDEN,),
        },
    }[kind]
    tensors = {n: torch.randn(size, generator=generator) * 0.2 for n, size in sizes.items()}
    nemo = llama.nemo()
    nemo.config["mm_cfg"]["mm_mlp_adapter_type"] = kind
    for name in list(nemo.tensors):
        if name.startswith(PROJECTOR):
            del nemo.tensors[name]
    nemo.tensors |= {PROJECTOR + name: tensor for name, tensor in tensors.items()}
    directory = nemo.write(tmp_path / "nemo")

    reference = {"linear": LinearReference, "mlp_downsample": DownsampleReference}[kind](tensors)
    request = llama.request
    if kind == "mlp_downsample":
        request = replace(request, num_media_tokens=request.num_media_tokens // 4)
    model = llama.model.reference.model
    original = model.multi_modal_projector
    model.multi_modal_projector = reference
    try:
        logits, _ = reference_answer(llama.model, request)
    finally:
        model.multi_modal_projector = original
    found = pool.run(last_logits, Setup(directory, vision_encoder=llama.tower), request)[0]
    assert float(np.abs(found - logits.numpy()[: len(found)]).max()) <= MAX_LOGIT_DIFFERENCE


def test_blocks_of_patches_are_merged_in_the_published_order() -> None:
    merged = merge_blocks(torch.arange(16.0).reshape(1, 16, 1))
    assert merged[0].tolist() == [[0, 1, 4, 5], [8, 9, 12, 13], [2, 3, 6, 7], [10, 11, 14, 15]]
    assert merge_blocks(torch.ones(2, 27 * 27, 3)).shape == (2, 196, 12)
    odd = merge_blocks(torch.arange(1.0, 10.0).reshape(1, 9, 1))
    grid = pad(torch.arange(1.0, 10.0).reshape(3, 3), (0, 1, 0, 1))
    assert odd[0, 3].tolist() == grid[2:, 2:].flatten().tolist()


# ---- towers ----


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_the_tower_may_lie_in_a_whole_clip_or_in_the_checkpoint(
    llama: Origin, pool: RankPool, tmp_path: Path
) -> None:
    whole_clip = write_tower(llama.model.reference, tmp_path / "clip", whole=True)
    directory = llama.nemo().write(tmp_path / "nemo")
    assert difference(pool, llama, directory, tower=whole_clip) <= MAX_LOGIT_DIFFERENCE

    trained = llama.nemo()
    state = llama.model.reference.model.vision_tower.state_dict()
    trained.tensors |= {
        f"model.embedding.word_embeddings.vision_encoder.vision_model.{name}": tensor
        for name, tensor in state.items()
    }
    trained.layout, trained.tp = "mp_rank", 2
    other = write_tower(llama.model.reference, tmp_path / "other")
    (other / "model.safetensors").unlink()  # its weights are not asked for
    path = trained.write(tmp_path / "trained")
    assert difference(pool, llama, path, tower=other) <= MAX_LOGIT_DIFFERENCE


def test_a_tower_that_does_not_fit_is_refused(llama: Origin, tmp_path: Path) -> None:
    nemo = llama.nemo()
    nemo.config["mm_cfg"]["vision_encoder"] |= {"crop_size": [224, 224], "patch_dim": 14}
    message = opening(nemo.write(tmp_path / "nemo"), llama.tower).message
    assert "crop_size is 224" in message
    assert "patch_dim is 14" in message
