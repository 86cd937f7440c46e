"""Projector and base apart, adapters, projectors of other kinds, towers wherever they lie."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
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


# Matrix, adapter and the matrix's (rows, columns), by NeMo's name of the target.
ADAPTED: dict[str, tuple[str, str, int, int]] = {
    "attention_qkv": ("self_attention.linear_qkv", "self_attention.lora_kqv", 256, HIDDEN),
    "attention_dense": (
        "self_attention.linear_proj",
        "self_attention.lora_dense_attention",
        HIDDEN,
        HIDDEN,
    ),
    "mlp_fc1": ("mlp.linear_fc1", "mlp.lora_hto4h", 1024, HIDDEN),
    "mlp_fc2": ("mlp.linear_fc2", "mlp.lora_4htoh", HIDDEN, 512),
}


def adapted(
    origin: Origin, targets: list[str], generator: torch.Generator
) -> tuple[Nemo, dict[str, torch.Tensor]]:
    """A projector with random adapters, and what they add to the matrices."""
    nemo = projector_only(origin)
    nemo.config["peft"] = {
        "peft_scheme": "lora",
        "lora_tuning": {"adapter_dim": 8, "alpha": 16, "target_modules": targets},
    }
    changes: dict[str, torch.Tensor] = {}
    for layer, target in product(range(3), targets):
        matrix, name, rows, columns = ADAPTED[target]
        block, lora = name.split(".")
        prefix = f"model.decoder.layers.{layer}."
        adapter = f"{prefix}{block}.adapter_layer.{lora}_adapter."
        inner = torch.randn(8, columns, generator=generator) * 0.1
        outer = torch.randn(rows, 8, generator=generator) * 0.1
        nemo.tensors[adapter + "linear_in.weight"] = inner
        nemo.tensors[adapter + "linear_out.weight"] = outer
        changes[f"{prefix}{matrix}.weight"] = 2.0 * outer @ inner
    return nemo, changes


@pytest.mark.parametrize("targets", [["attention_qkv"], list(ADAPTED)], ids=["qkv", "all"])
@pytest.mark.parametrize("tp", [1, 2])
def test_adapters_are_merged_into_their_matrices(
    tp: int,
    targets: list[str],
    llama: Origin,
    pool: RankPool,
    tmp_path: Path,
    generator: torch.Generator,
) -> None:
    nemo, changes = adapted(llama, targets, generator)
    nemo.layout, nemo.tp = ("mp_rank" if tp > 1 else "single", tp)
    merged = llama.nemo()
    for name, change in changes.items():
        merged.tensors[name] += change
    adapted_path = nemo.write(tmp_path / "adapted")
    base_path = base_of(llama).write(tmp_path / "base")
    expected_path = merged.write(tmp_path / "merged")
    expected, found = (
        pool.run(last_logits, setup, llama.request)[0]
        for setup in (
            Setup(expected_path, vision_encoder=llama.tower),
            Setup(adapted_path, vision_encoder=llama.tower, base_model=base_path),
        )
    )
    assert float(np.abs(found - expected).max()) <= MAX_LOGIT_DIFFERENCE
    assert float(np.abs(found - llama.logits[: len(found)]).max()) > 0.01


@pytest.mark.parametrize("target", ADAPTED)
def test_an_adapter_that_is_missing_or_not_announced_is_named(
    target: str, llama: Origin, tmp_path: Path, generator: torch.Generator
) -> None:
    nemo, _ = adapted(llama, list(ADAPTED), generator)
    _, name, _, _ = ADAPTED[target]
    lost = next(n for n in nemo.tensors if f"layers.1.{name.split('.')[0]}" in n and "_in." in n)
    del nemo.tensors[lost]
    nemo.config["peft"]["lora_tuning"]["target_modules"] = [t for t in ADAPTED if t != target]
    base = base_of(llama).write(tmp_path / "base")
    message = opening(nemo.write(tmp_path / "nemo"), llama.tower, base).message
    assert f"{name.split('.')[1]}_adapter.linear_out.weight" in message
    assert "unexpected model.decoder.layers.2." in message
    nemo.config["peft"]["lora_tuning"]["target_modules"] = ["all"]
    message = opening(nemo.write(tmp_path / "all"), llama.tower, base).message
    assert f"missing {lost.removeprefix('model.')}" in message
    assert "unexpected" not in message


def test_a_fused_adapter_in_parts_of_unknown_order_is_refused(
    llama: Origin, tmp_path: Path, generator: torch.Generator
) -> None:
    nemo, _ = adapted(llama, ["mlp_fc1"], generator)
    nemo.layout, nemo.tp = "torch_dist", 2
    base = base_of(llama).write(tmp_path / "base")
    message = opening(nemo.write(tmp_path / "nemo"), llama.tower, base).message
    assert "lora_hto4h_adapter.linear_out.weight[0] lies in 2 parts" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("peft_scheme", "ia3", "peft_scheme is 'ia3', only lora"),
        ("lora_tuning.variant", "canonical", "variant is 'canonical'"),
        ("lora_tuning.layer_selection", [1, 2], r"layer_selection is [1, 2]"),
        ("lora_tuning.target_modules", ["attention_qkv", "head"], "target_modules is"),
    ],
)
def test_adapters_of_another_kind_are_refused(
    key: str, value: object, words: str, llama: Origin, tmp_path: Path, generator: torch.Generator
) -> None:
    nemo, _ = adapted(llama, ["attention_qkv"], generator)
    section, _, name = key.rpartition(".")
    peft = nemo.config["peft"]
    (peft[section] if section else peft)[name] = value
    base = base_of(llama).write(tmp_path / "base")
    error = opening(nemo.write(tmp_path / "nemo"), llama.tower, base)
    assert error.reason is Reason.UNSUPPORTED_MODEL
    assert words in error.message


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
