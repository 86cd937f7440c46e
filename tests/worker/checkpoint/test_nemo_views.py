"""How NeMo packs matrices: values that the original's functions gave, and the rules behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neva.archive import Segment
from worker.checkpoint.nemo_names import language_shapes
from worker.checkpoint.nemo_views import canonical_tensors, qkv_blocks
from worker.checkpoint.stored import StoredTensor, TiledTensor
from worker.engine.architecture import LanguageShape
from worker.engine.language_model import padded_vocab_size
from worker.engine.projector import merge_blocks

TINY = LanguageShape(
    num_layers=1,
    hidden_size=2,
    ffn_size=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=1,
    vocab_size=5,
    context_tokens=8,
    norm_epsilon=1e-5,
    inverse_frequencies=(1.0,),
    rotary_scaling=1.0,
    ties_embeddings=True,
)
LAYER = "decoder.layers.0."


def stored(tensor: torch.Tensor, path: Path) -> TiledTensor:
    tensor.numpy().astype(np.float32).tofile(path)
    segment = Segment(path, 0, path.stat().st_size)
    whole = StoredTensor.contiguous(segment, torch.float32, tuple(tensor.shape))
    return TiledTensor.of(whole, path.name)


def test_matrices_are_taken_apart_as_the_original_packs_them(tmp_path: Path) -> None:
    found = {
        name: stored(torch.zeros(*(abs(size) for size in shape)), tmp_path / name)
        for name, shape in language_shapes(TINY).items()
    }
    fused = torch.tensor([10.0, 11, 20, 30, 12, 13, 21, 31])[:, None].expand(8, 2)
    found[f"{LAYER}self_attention.linear_qkv.weight"] = stored(fused, tmp_path / "qkv")
    fc1 = torch.tensor([1.0, 1, 1, 2, 2, 2])[:, None].expand(6, 2)
    found[f"{LAYER}mlp.linear_fc1.weight"] = stored(fc1, tmp_path / "fc1")
    tensors = canonical_tensors(TINY, found)

    def first_column(name: str) -> list[float]:
        return tensors[f"language_model.layers.0.{name}.weight"].read()[:, 0].tolist()

    assert first_column("self_attn.q_proj") == [10, 11, 12, 13]
    assert first_column("self_attn.k_proj") == [20, 21]
    assert first_column("self_attn.v_proj") == [30, 31]
    assert first_column("mlp.gate_proj") == [1, 1, 1]
    assert first_column("mlp.up_proj") == [2, 2, 2]


@given(groups=st.integers(1, 8), per_group=st.integers(1, 8), dim=st.integers(1, 16))
def test_every_row_of_a_fused_qkv_belongs_to_one_matrix_in_its_order(
    groups: int, per_group: int, dim: int
) -> None:
    shape = replace(TINY, num_heads=groups * per_group, num_kv_heads=groups, head_dim=dim)
    rows = {
        name: [row for first, last in blocks for row in range(first, last)]
        for name, blocks in qkv_blocks(shape).items()
    }
    assert all(found == sorted(found) for found in rows.values())
    together = sorted(row for found in rows.values() for row in found)
    assert together == list(range((per_group + 2) * groups * dim))
    assert len(rows["q"]) == groups * per_group * dim
    assert len(rows["k"]) == len(rows["v"]) == groups * dim


@pytest.mark.parametrize(
    ("size", "num_ranks", "expected"),
    [(32000, 1, 32000), (32008, 1, 32128), (32008, 4, 32256), (32008, 8, 32768)],
)
def test_the_vocabulary_is_padded_as_the_original_pads_it(
    size: int, num_ranks: int, expected: int
) -> None:
    assert padded_vocab_size(size, num_ranks) == expected


@given(size=st.integers(1, 300_000), num_ranks=st.sampled_from([1, 2, 4, 8, 16]))
def test_the_padded_vocabulary_is_the_smallest_that_the_ranks_share_evenly(
    size: int, num_ranks: int
) -> None:
    padded = padded_vocab_size(size, num_ranks)
    assert padded % (128 * num_ranks) == 0
    assert size <= padded < size + 128 * num_ranks


@given(side=st.integers(1, 9), channels=st.integers(1, 3))
def test_merging_blocks_loses_nothing_and_fills_up_with_zeros(side: int, channels: int) -> None:
    features = torch.arange(1.0, side * side * channels + 1).reshape(1, side * side, channels)
    merged = merge_blocks(features)
    num_blocks = (side + 1) // 2
    assert merged.shape == (1, num_blocks**2, 4 * channels)
    kept = merged.flatten().sort().values
    assert kept[-features.numel() :].tolist() == features.flatten().tolist()
    assert not kept[: -features.numel()].any()
    # Column by column: the second block lies below the first one.
    if num_blocks > 1:
        assert merged[0, 1, 0] == features[0, 2 * side, 0]
