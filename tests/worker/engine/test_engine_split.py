from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neva.errors import ConfigError
from neva.rank_split import split_over, stage_of
from tests.worker.engine.models import make_llava, make_request, reference_answer, write_media
from tests.worker.engine.rank_functions import Setup, generate, last_logits
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.architecture import LanguageShape

SHAPE = LanguageShape(
    num_layers=1,
    hidden_size=8,
    ffn_size=12,
    num_heads=9,
    num_kv_heads=3,
    head_dim=2,
    vocab_size=10,
    context_tokens=4,
    norm_epsilon=1e-5,
    inverse_frequencies=(1.0,),
    rotary_scaling=1.0,
    ties_embeddings=False,
)


@given(
    kv_heads=st.integers(1, 12),
    group=st.integers(1, 8),
    ffn_size=st.integers(1, 99),
    size=st.sampled_from([1, 2, 3, 4, 6, 8, 16]),
)
def test_every_head_has_a_rank_and_stays_with_its_group(
    kv_heads: int, group: int, ffn_size: int, size: int
) -> None:
    shape = replace(SHAPE, num_heads=kv_heads * group, num_kv_heads=kv_heads, ffn_size=ffn_size)
    split = split_over(shape, size)
    seen: list[int] = []
    for rank in range(size):
        heads, own_kv = split.heads(rank), split.kv_heads(rank)
        seen += heads
        per_kv = len(heads) // len(own_kv)
        for place, head in enumerate(heads):
            if head < shape.num_heads:
                assert own_kv[place // per_kv] == head // group
            else:  # a head of zeros has nothing to say, whatever its group
                assert head // group >= kv_heads or split.copies > 1
    assert seen == list(range(split.num_heads))
    assert {column for rank in range(size) for column in split.ffn(rank)} >= set(range(ffn_size))


def test_what_divides_is_not_padded() -> None:
    shape = replace(SHAPE, num_heads=8, num_kv_heads=2, ffn_size=12)
    assert [split_over(shape, n).num_heads for n in (1, 2, 4)] == [8, 8, 8]
    assert [split_over(shape, n).copies for n in (1, 2, 4)] == [1, 1, 2]
    assert split_over(SHAPE, 2).num_heads == 12  # 3 groups of 3 become 4


@given(num_stages=st.integers(1, 9), more_layers=st.integers(0, 70))
def test_stages_share_the_layers_in_order_and_evenly(num_stages: int, more_layers: int) -> None:
    num_layers = num_stages + more_layers
    stages = [stage_of(num_layers, stage, num_stages) for stage in range(num_stages)]
    assert [layer for stage in stages for layer in stage.layers] == list(range(num_layers))
    counts = [len(stage.layers) for stage in stages]
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)  # the last stage has the output layer, too
    assert [stage.is_first for stage in stages] == [True] + [False] * (num_stages - 1)
    assert [stage.is_last for stage in stages] == [False] * (num_stages - 1) + [True]


def test_a_stage_without_a_layer_is_refused() -> None:
    with pytest.raises(ConfigError, match="pipeline parallel size 4: the model has 3 layers"):
        stage_of(3, 0, 4)


@pytest.mark.parametrize("pool", [2, 4], indirect=True)
def test_heads_that_do_not_divide_equal_transformers(pool: RankPool, models_dir: Path) -> None:
    directory = models_dir / "odd-heads"
    model = make_llava(
        directory,
        exist_ok=True,
        num_kv_heads=3,
        num_attention_heads=9,
        hidden_size=144,
        intermediate_size=510,
    )
    media = write_media(models_dir / "odd-media", num_frames=2, seed=8)
    request = make_request("row", 14, media=media)
    logits, tokens = reference_answer(model, request)
    found = pool.run(last_logits, Setup(directory), request)[0]
    assert float(np.abs(found - logits.numpy()).max()) <= 1e-5
    outcome = same_on_all(pool.run(generate, Setup(directory), [request]))["row"]
    assert outcome.token_ids == tokens
