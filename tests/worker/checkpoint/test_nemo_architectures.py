"""Other architectures than Llama's with a CLIP, in several layouts, equal transformers' LLaVA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from neva.local_model import LocalModel
from neva.nemo_config import NemoConfig
from neva.reasons import Reason
from tests.worker.checkpoint.conftest import LLAMA_3_ROPE, Origin
from tests.worker.checkpoint.nemo_writer import write_tower
from tests.worker.checkpoint.test_nemo_layouts import MAX_LOGIT_DIFFERENCE, difference, nemo_of
from tests.worker.checkpoint.test_nemo_parts import opening
from tests.worker.engine.ranks import RankPool
from worker.checkpoint.inspection import inspect_model
from worker.checkpoint.nemo_rotary import inverse_frequencies


@pytest.mark.parametrize("pool", [1, 2], indirect=True)
@pytest.mark.parametrize("layout", ["single rank", "mp_rank of 2", "torch_dist of 2"])
def test_qkv_biases_scaled_rotary_and_siglip_equal_transformers(
    layout: str, qwen: Origin, pool: RankPool, tmp_path: Path
) -> None:
    directory = nemo_of(qwen, layout).write(tmp_path / "nemo")
    assert difference(pool, qwen, directory) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize(
    "layout", ["mp_rank of 4, local names", "tp 2 pp 3, legacy names", "zarr, legacy names"]
)
def test_biases_on_every_matrix_equal_transformers(
    layout: str, biased: Origin, pool: RankPool, tmp_path: Path
) -> None:
    directory = nemo_of(biased, layout).write(tmp_path / "nemo")
    assert difference(pool, biased, directory) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_the_rotary_scaling_is_seen(qwen: Origin, pool: RankPool, tmp_path: Path) -> None:
    """Without it the logits differ, so the comparison above means something."""
    nemo = qwen.nemo()
    nemo.config["scale_positional_embedding"] = False
    assert difference(pool, qwen, nemo.write(tmp_path / "nemo")) > 10 * MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_scaled_frequencies_equal_those_of_transformers(theta: float, llama: Origin) -> None:
    rope = LLAMA_3_ROPE | {"rope_theta": theta}
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](
        LlamaConfig(hidden_size=128, num_attention_heads=1, rope_parameters=rope), None
    )
    language = NemoConfig("test", llama.nemo().config).language()
    config = replace(language, rotary_size=128, rotary_base=theta, rotary_is_scaled=True)
    assert torch.allclose(torch.tensor(inverse_frequencies(config)), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_a_siglip_may_lie_in_a_directory_with_its_text_tower(
    qwen: Origin, pool: RankPool, tmp_path: Path
) -> None:
    whole = write_tower(qwen.model.reference, tmp_path / "siglip", whole=True)
    directory = qwen.nemo().write(tmp_path / "nemo")
    assert difference(pool, qwen, directory, tower=whole) <= MAX_LOGIT_DIFFERENCE


def test_a_siglip_has_steps_of_its_own_and_no_class_token(qwen: Origin, tmp_path: Path) -> None:
    nemo = qwen.nemo()
    model = LocalModel(nemo.write(tmp_path / "nemo"), vision=qwen.tower)
    profile = model.profile()
    assert (profile.resize_mode, profile.tokens_per_frame) == ("exact", 16)
    assert profile.image_mean == profile.image_std == (0.5, 0.5, 0.5)
    facts = dict(inspect_model(model, "bf16").facts)
    assert facts["tower"].startswith("SigLIP, hidden 64")
    assert facts["biases"] == "queries, keys and values"

    nemo.config["mm_cfg"]["vision_encoder"]["class_token_length"] = 1
    error = opening(nemo.write(tmp_path / "other"), qwen.tower)
    assert error.reason is Reason.UNSUPPORTED_MODEL
    assert "class_token_length 1 don't fit a SigLIP" in error.message


@pytest.mark.parametrize(
    "name", ["self_attention.linear_qkv.bias", "mlp.linear_fc1.bias", "mlp.linear_fc2.bias"]
)
def test_a_missing_unexpected_or_misshapen_bias_is_named(
    name: str, biased: Origin, llama: Origin, tmp_path: Path
) -> None:
    nemo, plain = biased.nemo(), llama.nemo()
    removed, cut = f"model.decoder.layers.1.{name}", f"model.decoder.layers.2.{name}"
    del nemo.tensors[removed]
    nemo.tensors[cut] = nemo.tensors[cut][:-1].clone()
    message = opening(nemo.write(tmp_path / "nemo"), biased.tower).message
    assert f"missing decoder.layers.1.{name}" in message
    assert f"{cut} has shape" in message
    plain.tensors[removed] = torch.ones(3)
    message = opening(plain.write(tmp_path / "plain"), llama.tower).message
    assert f"unexpected {removed}" in message
