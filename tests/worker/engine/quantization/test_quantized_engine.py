"""4-bit weights in the engine: the same at every tensor parallel size, smaller, still right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests.worker.engine.models import TinyLlava, make_request, write_media
from tests.worker.engine.quantization.rank_functions import (
    Shares,
    calibration_of,
    layer_bytes,
    quantized_parts,
)
from tests.worker.engine.rank_functions import Setup, generate, last_logits
from tests.worker.engine.ranks import RankPool, same_on_all
from worker.engine.launch import Int4Config
from worker.engine.protocol import GenerateRequest, GenerateResult
from worker.engine.quantization.calibrate import CalibrationPrompt

GROUP_SIZE = 32
MAX_LOGIT_DIFFERENCE = 1e-5


@dataclass(frozen=True)
class Calibrated:
    """A model, what was found for it, and rows to ask."""

    setup: Setup
    plain: Setup
    data: bytes
    shares: Shares
    prompts: list[CalibrationPrompt]
    requests: list[GenerateRequest]


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory):
    pool = RankPool(1, tmp_path_factory.mktemp("single"))
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def calibrated(
    model: TinyLlava, single: RankPool, tmp_path_factory: pytest.TempPathFactory
) -> Calibrated:
    folder = tmp_path_factory.mktemp("quantized")
    media = [write_media(folder / f"media-{n}", num_frames=2 + n % 2, seed=n) for n in range(4)]
    requests = [
        make_request(f"row {n}", 10 + 3 * n, media=ref, seed=n) for n, ref in enumerate(media)
    ]
    prompts = [CalibrationPrompt(r.before_ids, r.after_ids, r.media) for r in requests if r.media]
    ((data, shares),) = single.run(calibration_of, model.directory, prompts, GROUP_SIZE)
    file = folder / "calibration"
    file.write_bytes(data)
    setup = Setup(model.directory, quantization=Int4Config(GROUP_SIZE, file))
    return Calibrated(setup, Setup(model.directory), data, shares, prompts, requests)


@pytest.fixture(scope="module")
def alone(calibrated: Calibrated, single: RankPool) -> tuple[list[np.ndarray], dict[str, object]]:
    """Logits and answers of one rank."""
    logits = [single.run(last_logits, calibrated.setup, r)[0] for r in calibrated.requests]
    return logits, single.run(generate, calibrated.setup, calibrated.requests)[0]


@pytest.mark.parametrize("pool", [1, 2, 4], indirect=True)
def test_every_tensor_parallel_size_computes_the_same(
    calibrated: Calibrated,
    alone: tuple[list[np.ndarray], dict[str, object]],
    pool: RankPool,
) -> None:
    logits, answers = alone
    found = [pool.run(last_logits, calibrated.setup, r)[0] for r in calibrated.requests]
    difference = max(
        float(np.abs(one - other).max()) for one, other in zip(found, logits, strict=True)
    )
    print(f"largest logit difference from one rank: {difference:.1e}")
    assert difference <= MAX_LOGIT_DIFFERENCE
    assert same_on_all(pool.run(generate, calibrated.setup, calibrated.requests)) == answers
    assert all(isinstance(answer, GenerateResult) for answer in answers.values())


def test_quantization_is_in_effect_and_near_the_model(
    calibrated: Calibrated, alone: tuple[list[np.ndarray], dict[str, object]], single: RankPool
) -> None:
    for request, logits in zip(calibrated.requests, alone[0], strict=True):
        exact = single.run(last_logits, calibrated.plain, request)[0]
        distance = float(np.linalg.norm(logits - exact) / np.linalg.norm(exact))
        assert 0.01 < distance < 0.5


@pytest.mark.parametrize("pool", [2], indirect=True)
def test_ranks_hold_slices_of_what_one_rank_holds(
    calibrated: Calibrated, single: RankPool, pool: RankPool
) -> None:
    (whole,) = single.run(quantized_parts, calibrated.setup)
    parts = pool.run(quantized_parts, calibrated.setup)
    for name, wanted in whole.items():
        for key, data in wanted.items():
            rows = [np.frombuffer(part[name][key], np.uint8) for part in parts]
            if name.endswith(("linear_proj", "linear_fc2")):  # split by inputs
                num_outputs = 1 if key == "factors" else 128
                rows = [row.reshape(num_outputs, -1) for row in rows]
                found = np.concatenate(rows, axis=1)
            elif key == "factors":
                found = rows[0]
            elif name.endswith("linear_fc1"):  # each rank has gates, then ups
                halves = [row.reshape(2, -1) for row in rows]
                found = np.concatenate(halves, axis=1)
            else:
                found = np.concatenate(rows)
            assert found.tobytes() == data, (name, key)


def test_the_search_lowers_the_error_of_every_matrix(calibrated: Calibrated) -> None:
    assert len(calibrated.shares) == 3 * 4
    assert max(calibrated.shares.values()) <= 1.0
    assert np.mean(list(calibrated.shares.values())) < 0.95
    print(f"mean share of plain rounding's error left: {np.mean([*calibrated.shares.values()])}")


def test_a_second_calibration_gives_the_same_bytes(
    calibrated: Calibrated, model: TinyLlava, single: RankPool
) -> None:
    ((again, _),) = single.run(calibration_of, model.directory, calibrated.prompts, GROUP_SIZE)
    assert again == calibrated.data


def test_memory_shrinks_to_what_4_bits_take(calibrated: Calibrated, single: RankPool) -> None:
    (wide,) = single.run(layer_bytes, calibrated.plain)
    (narrow,) = single.run(layer_bytes, calibrated.setup)
    norms = 3 * 2 * 128 * 4
    num_weights = (wide - norms) // 4
    # 4 bits a weight; a float32 step and a byte a group; a float32 factor an input.
    expected = num_weights // 2 + num_weights // GROUP_SIZE * 5 + 3 * (3 * 128 + 512) * 4
    assert narrow == norms + expected


@pytest.mark.parametrize("pool", [4], indirect=True)
def test_a_group_that_would_lie_on_two_ranks_is_refused(
    calibrated: Calibrated, pool: RankPool
) -> None:
    assert calibrated.setup.quantization is not None
    config = Int4Config(64, calibrated.setup.quantization.calibration_file)
    setup = Setup(calibrated.plain.model_dir, quantization=config)
    with pytest.raises(AssertionError, match=r"linear_proj \(K = 32 on each of 4 ranks\)"):
        pool.run(generate, setup, calibrated.requests)
