"""The engine computes what transformers' LLaVA computes, at every tensor parallel size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.worker.engine.models import (
    TinyLlava,
    make_llava,
    make_request,
    reference_answer,
    write_media,
)
from tests.worker.engine.rank_functions import Setup, generate, generate_with_fault, last_logits
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.protocol import GenerateRequest, GenerateResult

MAX_LOGIT_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Case:
    """A model, rows of unequal length, and transformers' answers for each row alone."""

    model: TinyLlava
    requests: list[GenerateRequest]
    logits: list[np.ndarray]
    tokens: dict[str, tuple[int, ...]]


def make_case(model: TinyLlava, directory: Path) -> Case:
    video = write_media(directory / "video", num_frames=3, seed=1)
    image = write_media(directory / "image", num_frames=1, seed=2)
    other = write_media(directory / "other", num_frames=3, seed=3)
    requests = [
        make_request("video", 12, media=video, seed=4),
        make_request("image", 17, media=image, seed=5),
        make_request("text only", 23, seed=6),
        make_request("video of the first one's length", 12, media=other, seed=7),
    ]
    logits, tokens = [], {}
    for request in requests:
        row_logits, row_tokens = reference_answer(model, request)
        logits.append(row_logits.numpy())
        tokens[request.request_id] = row_tokens
    return Case(model, requests, logits, tokens)


@pytest.fixture(scope="module", params=[8, 4, 2, 1], ids=lambda n: f"kv{n}")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    directory = tmp_path_factory.mktemp("parity")
    model = make_llava(directory / "model", num_kv_heads=request.param)
    return make_case(model, directory)


def tokens_of(outcomes: dict[str, object]) -> dict[str, tuple[int, ...]]:
    tokens = {}
    for name, outcome in outcomes.items():
        assert isinstance(outcome, GenerateResult), outcome
        tokens[name] = outcome.token_ids
    return tokens


def test_logits_and_greedy_tokens_equal_those_of_transformers(case: Case, pool: RankPool) -> None:
    setup = Setup(case.model.directory)
    differences = [
        float(np.abs(pool.run(last_logits, setup, request)[0] - expected).max())
        for request, expected in zip(case.requests, case.logits, strict=True)
    ]
    print(f"largest logit difference of {len(differences)} rows: {max(differences):.1e}")
    assert max(differences) <= MAX_LOGIT_DIFFERENCE

    # All rows in one ragged batch against each row alone in transformers.
    outcomes = same_on_all(pool.run(generate, setup, case.requests))
    assert tokens_of(outcomes) == case.tokens
    assert {len(tokens) for tokens in case.tokens.values()} == {32}
    assert len({token for tokens in case.tokens.values() for token in tokens}) > 20


@pytest.fixture(scope="module")
def common_case(model: TinyLlava, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(model, tmp_path_factory.mktemp("common"))


@pytest.mark.parametrize(("rows_per_step", "max_batch_rows"), [(1, 3), (2, 2), (4, 1)])
def test_rows_that_come_and_go_at_any_step_get_the_same_tokens(
    common_case: Case, pool: RankPool, rows_per_step: int, max_batch_rows: int
) -> None:
    setup = Setup(common_case.model.directory, max_batch_rows)
    outcomes = same_on_all(pool.run(generate, setup, common_case.requests[::-1], rows_per_step))
    assert tokens_of(outcomes) == common_case.tokens


@pytest.mark.parametrize("pool", [1], indirect=True)
@pytest.mark.parametrize(
    "fault",
    [
        "decode positions off by one",
        "mask of own tokens missing",
        "mask of prefixes missing",
        "prefill not causal",
    ],
)
def test_the_comparison_notices_a_wrong_attention(
    common_case: Case, pool: RankPool, fault: str
) -> None:
    setup = Setup(common_case.model.directory)
    healthy = pool.run(generate_with_fault, setup, common_case.requests, "none")[0]
    assert tokens_of(healthy) == common_case.tokens
    faulty = pool.run(generate_with_fault, setup, common_case.requests, fault)[0]
    assert tokens_of(faulty) != common_case.tokens


VARIANTS: dict[str, dict[str, Any]] = {
    "fp16 weights computed in fp32": {"dtype": torch.float16},
    "tied embeddings": {"tie_word_embeddings": True},
    "ranks with nothing but vocabulary padding": {"vocab_size": 200},
    "head size apart from the hidden size": {"head_dim": 32},
    "rotary embedding of llama 3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
    "biases everywhere": {"attention_bias": True, "mlp_bias": True},
    "biases in the mlp": {"mlp_bias": True},
    "qwen2": {"text_model": "qwen2", "num_kv_heads": 1},
    "mistral": {"text_model": "mistral", "sliding_window": None, "head_dim": 32},
    "siglip": {"tower": "siglip"},
    "the last layer of a siglip": {"tower": "siglip", "vision_feature_layer": -1},
}


@pytest.mark.parametrize("pool", [1, 4], indirect=True)
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_the_architecture_equal_transformers(
    variant: str, pool: RankPool, models_dir: Path
) -> None:
    directory = models_dir / variant.replace(" ", "-")
    model = make_llava(directory, exist_ok=True, **VARIANTS[variant])
    media = write_media(models_dir / "variant-media", num_frames=2, seed=8)
    request = make_request("row", 14, media=media, vocab_size=model.vocab_size)
    logits, tokens = reference_answer(model, request)
    setup = Setup(directory)
    found = pool.run(last_logits, setup, request)[0]
    assert float(np.abs(found - logits.numpy()).max()) <= MAX_LOGIT_DIFFERENCE
    assert tokens_of(same_on_all(pool.run(generate, setup, [request]))) == {"row": tokens}


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_bf16_stays_near_fp32(common_case: Case, pool: RankPool) -> None:
    setup = Setup(common_case.model.directory, precision="bf16")
    for request, expected in zip(common_case.requests, common_case.logits, strict=True):
        found = pool.run(last_logits, setup, request)[0]
        assert float(np.abs(found - expected).max()) < 0.05 * float(np.abs(expected).max())
