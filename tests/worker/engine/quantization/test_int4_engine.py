"""4-bit weights in the engine: the same at every tensor parallel size, smaller, still right."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from neva.local_model import LocalModel
from neva.rank_split import stage_of
from tests.support.jobs import DEMO_MODEL
from tests.worker.engine.models import make_llava
from tests.worker.engine.quantization.conftest import (
    Case,
    largest_difference,
    logits_and_answers,
    require_slices,
)
from tests.worker.engine.quantization.rank_functions import calibration_of, layer_bytes
from tests.worker.engine.rank_functions import Setup, generate
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.checkpoint.inspection import int4_bytes, rank_parameters
from worker.checkpoint.open import open_checkpoint
from worker.engine.launch import QuantizationConfig
from worker.engine.protocol import GenerateResult, MediaRef, Outcome
from worker.engine.quantization.calibrate import CalibrationPrompt

GROUP_SIZE = 32
MAX_LOGIT_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Calibrated:
    """What was found, and what one rank says with it."""

    setup: Setup
    plain: Setup
    data: bytes
    error_shares: list[float]
    logits: list[np.ndarray]
    answers: dict[str, Outcome]


@pytest.fixture(scope="module")
def calibrated(case: Case, single: RankPool) -> Calibrated:
    ((data, shares),) = single.run(calibration_of, case.model_dir, case.prompts, "awq", GROUP_SIZE)
    file = case.folder / "awq"
    file.write_bytes(data)
    setup = Setup(case.model_dir, quantization=QuantizationConfig("awq", GROUP_SIZE, file))
    logits, (answers,) = logits_and_answers(single, setup, case)
    return Calibrated(setup, Setup(case.model_dir), data, shares, logits, answers)


@pytest.mark.parametrize("pool", [2, 4], indirect=True)
def test_every_tensor_parallel_size_computes_the_same(
    case: Case, calibrated: Calibrated, pool: RankPool
) -> None:
    logits, answers = logits_and_answers(pool, calibrated.setup, case)
    difference = largest_difference(logits, calibrated.logits)
    print(f"largest logit difference from one rank: {difference:.1e}")
    assert difference <= MAX_LOGIT_DIFFERENCE
    assert same_on_all(answers) == calibrated.answers
    assert all(isinstance(answer, GenerateResult) for answer in calibrated.answers.values())


def test_pipeline_stages_compute_the_same(
    case: Case, calibrated: Calibrated, tmp_path: Path
) -> None:
    with closing(RankPool(2, tmp_path, num_stages=2)) as stages:
        answers = stages.run(generate, calibrated.setup, case.requests)
    assert same_on_all(answers) == calibrated.answers


def test_quantization_is_in_effect_and_near_the_model(
    case: Case, calibrated: Calibrated, single: RankPool
) -> None:
    exact, _ = logits_and_answers(single, calibrated.plain, case)
    for found, wanted in zip(calibrated.logits, exact, strict=True):
        distance = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        assert 0.01 < distance < 0.5  # weights without structure: the worst case


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_ranks_hold_slices_of_what_one_rank_holds(
    calibrated: Calibrated, single: RankPool, pool: RankPool
) -> None:
    require_slices(calibrated.setup, single, pool)


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_biases_stay_as_they_are(
    case: Case, single: RankPool, pool: RankPool, tmp_path: Path
) -> None:
    biased = make_llava(tmp_path / "model", attention_bias=True, mlp_bias=True)
    case = Case(biased.directory, tmp_path, case.requests)
    ((data, _),) = single.run(calibration_of, case.model_dir, case.prompts, "awq", 8)
    (tmp_path / "awq").write_bytes(data)
    quantization = QuantizationConfig("awq", 8, tmp_path / "awq")
    setup = Setup(case.model_dir, quantization=quantization)
    exact, _ = logits_and_answers(single, Setup(case.model_dir), case)
    one, answers = logits_and_answers(single, setup, case)
    two, answers_of_two = logits_and_answers(pool, setup, case)
    for found, wanted in zip(one, exact, strict=True):
        distance = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
        print(f"{distance:.3f} from the model as it is")
        assert 0.01 < distance < 0.3
    assert largest_difference(one, two) <= MAX_LOGIT_DIFFERENCE
    assert same_on_all(answers_of_two) == answers[0]


def test_the_search_lowers_the_error_of_the_matrices(calibrated: Calibrated) -> None:
    shares = calibrated.error_shares
    print(f"mean share of plain rounding's error left: {np.mean(shares):.3f}")
    assert len(shares) == 3 * 4
    assert max(shares) <= 1.0
    assert np.mean(shares) < 0.95


def test_a_second_calibration_gives_the_same_bytes(
    case: Case, calibrated: Calibrated, single: RankPool
) -> None:
    ((again, _),) = single.run(calibration_of, case.model_dir, case.prompts, "awq", GROUP_SIZE)
    assert again == calibrated.data


def test_memory_shrinks_to_what_4_bits_take(calibrated: Calibrated, single: RankPool) -> None:
    (wide,) = single.run(layer_bytes, calibrated.plain)
    (narrow,) = single.run(layer_bytes, calibrated.setup)
    norms = 3 * 2 * 128 * 4
    num_weights = (wide - norms) // 4
    # 4 bits a weight; a float32 step and a byte a group; a float32 factor an input.
    expected = num_weights // 2 + num_weights // GROUP_SIZE * 5 + 3 * (3 * 128 + 512) * 4
    assert narrow == norms + expected
    with open_checkpoint(LocalModel(calibrated.plain.model_dir)) as checkpoint:  # as inspect says
        whole = stage_of(checkpoint.shape.language.num_layers, 0, 1)
        told = int4_bytes(checkpoint.shape, 1, whole, 4, GROUP_SIZE)
        assert 4 * rank_parameters(checkpoint.shape, 1, whole) - told == wide - narrow


def test_the_search_lowers_the_error_of_the_demo_model(tmp_path: Path, single: RankPool) -> None:
    pixels = np.random.default_rng(0).standard_normal((8, 3, 64, 64)).astype(np.float32)
    pixels.tofile(tmp_path / "media")
    media = MediaRef("media", str(tmp_path / "media"), (8, 3, 64, 64))
    prompts = [CalibrationPrompt((1, 5, 6), tuple(range(7, 60)), media)]
    ((_, shares),) = single.run(calibration_of, DEMO_MODEL, prompts, "awq", 16)
    print(f"mean share of plain rounding's error left, demo model: {np.mean(shares):.3f}")
    assert max(shares) <= 1.0
    assert np.mean(shares) < 0.9


@pytest.mark.parametrize("pool", [4], indirect=True)
def test_a_group_that_would_lie_on_two_ranks_is_refused(
    case: Case, calibrated: Calibrated, pool: RankPool
) -> None:
    assert calibrated.setup.quantization is not None
    config = QuantizationConfig("awq", 64, calibrated.setup.quantization.calibration_file)
    setup = Setup(case.model_dir, quantization=config)
    with pytest.raises(AssertionError, match=r"linear_proj \(K = 32 on each of 4 ranks\)"):
        pool.run(generate, setup, case.requests)
