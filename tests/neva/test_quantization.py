"""Rules of `model.quantization` without a model: refusals and records."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from neva.errors import ConfigError
from neva.extras import install_words
from neva.job_file import answer_digest
from neva.language_sizes import LanguageSizes, read_language_sizes
from neva.local_model import LocalModel
from neva.quantization import (
    matrix_inputs,
    quantization_record,
    quantized_model,
    require_modelopt,
    require_whole_groups,
)
from neva.spec_model import Quantization
from tests.neva.jobs import job_spec
from tests.neva.nemo_directory import nemo_config, write_nemo

LLAMA_7B = LanguageSizes(4096, 11008, 32, 32, 128)


def awq(group_size: int) -> Quantization:
    return Quantization.model_validate({"enable": True, "groupSize": group_size})


def test_inputs_of_a_rank_are_whole_where_outputs_are_split() -> None:
    assert matrix_inputs(LLAMA_7B, 4) == {
        "linear_qkv": 4096,
        "linear_fc1": 4096,
        "linear_proj": 1024,
        "linear_fc2": 2752,
    }


def test_groups_that_would_lie_on_two_ranks_are_refused_with_a_way_out() -> None:
    require_whole_groups(awq(128), LLAMA_7B, 2)
    with pytest.raises(ConfigError) as refused:
        require_whole_groups(awq(128), LLAMA_7B, 4)
    assert refused.value.message == (
        "model.quantization.groupSize 128 does not divide the inputs of linear_fc2 (K = 2752 on "
        "each of 4 ranks); take 64, the largest that fits"
    )
    require_whole_groups(awq(64), LLAMA_7B, 4)


def test_a_group_may_not_reach_over_a_matrix_that_the_ranks_fill_up() -> None:
    # Three heads of 64: two ranks have two each, one of them made of zeros.
    sizes = LanguageSizes(256, 512, 3, 3, 64)
    assert matrix_inputs(sizes, 2)["linear_proj"] == 128
    with pytest.raises(ConfigError) as refused:
        require_whole_groups(awq(128), sizes, 2)
    assert refused.value.message == (
        "model.quantization.groupSize 128 does not divide the inputs of linear_proj (K = 192 in "
        "all); take 64, the largest that fits"
    )
    require_whole_groups(awq(64), sizes, 2)


def test_where_no_group_fits_fewer_ranks_are_the_way_out() -> None:
    odd = LanguageSizes(100, 300, 4, 4, 25)
    with pytest.raises(ConfigError, match=r"linear_qkv.*linear_proj.*take fewer ranks"):
        require_whole_groups(awq(32), odd, 4)


@pytest.mark.parametrize("quantization", [{"enable": False}, {"enable": True, "algorithm": "fp8"}])
def test_groups_matter_to_awq_alone(quantization: dict[str, object]) -> None:
    asked = Quantization.model_validate(quantization)
    require_whole_groups(asked, LanguageSizes(100, 300, 4, 4, 25), 4)


def test_a_group_size_for_an_algorithm_without_groups_is_refused() -> None:
    for wrong in ("int8_sq", "fp8"):
        with pytest.raises(ValidationError, match=f"is of awq; {wrong} has no groups"):
            Quantization.model_validate({"enable": True, "algorithm": wrong, "groupSize": 32})
    # The default is what a cluster fills in.
    Quantization.model_validate({"enable": True, "algorithm": "fp8", "groupSize": 64})
    Quantization.model_validate({"enable": False, "algorithm": "fp8", "groupSize": 32})


@pytest.mark.parametrize("algorithm", ["int8_sq", "fp8"])
def test_8_bits_without_modelopt_are_refused_with_the_ways_out(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    asked = Quantization.model_validate({"enable": True, "algorithm": algorithm})
    with pytest.raises(ConfigError) as refused:
        require_modelopt(asked)
    assert algorithm in refused.value.message
    assert f"{install_words('modelopt')}; or take algorithm: awq" in refused.value.message
    require_modelopt(Quantization.model_validate({"enable": False, "algorithm": algorithm}))
    require_modelopt(awq(64))


def test_sizes_of_a_directory_that_leaves_out_what_is_usual(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"vocab_size": 32064}}))
    assert read_language_sizes(LocalModel(tmp_path)) == LLAMA_7B
    text = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    assert read_language_sizes(LocalModel(tmp_path)) == LanguageSizes(128, 11008, 4, 2, 32)


def test_sizes_of_a_nemo_checkpoint(tmp_path: Path) -> None:
    model = LocalModel(write_nemo(tmp_path / "nemo", nemo_config()))
    assert read_language_sizes(model) == LanguageSizes(64, 128, 4, 4, 16)


def test_a_record_names_what_the_weights_depend_on() -> None:
    record = quantization_record(awq(64), b"found")
    digest = hashlib.sha256(b"found").hexdigest()[:16]
    assert record == {"algorithm": "awq", "groupSize": 64, "calibration": digest}
    assert quantized_model("s3://m/x", record) == f"s3://m/x#awq-64-{digest}"
    fp8 = Quantization.model_validate({"enable": True, "algorithm": "fp8"})
    assert quantization_record(fp8, b"found") == {"algorithm": "fp8", "calibration": digest}


def test_a_model_as_it_is_has_no_record_and_keeps_its_name() -> None:
    assert quantization_record(Quantization.model_validate({}), b"found") == {}
    assert quantized_model("s3://m/x", {}) == "s3://m/x"


def test_answers_depend_on_the_quantization_only_where_it_is_on() -> None:
    def digest(quantization: dict[str, object]) -> str:
        return answer_digest(job_spec(quantization=quantization))

    off = {digest({}), digest({"groupSize": 32}), digest({"algorithm": "fp8"})}
    assert len(off) == 1
    on = {"enable": True}
    variants = [
        on,
        {**on, "groupSize": 32},
        {**on, "algorithm": "fp8"},
        {**on, "calibrationRows": 3},
        {**on, "calibrationPrompts": "s3://bucket/p.jsonl"},
    ]
    assert len({digest(variant) for variant in variants} | off) == 6
