"""int8_sq and fp8 by nvidia-modelopt, where it is installed (it is an extra)."""

from __future__ import annotations

import numpy as np
import pytest

from tests.worker.engine.quantization.conftest import (
    Case,
    logits_and_answers,
    require_slices,
)
from tests.worker.engine.quantization.rank_functions import calibration_of, distance_from_modelopt
from tests.worker.engine.rank_functions import Setup
from tests.worker.engine.ranks import RankPool
from worker.engine.launch import QuantizationConfig

pytest.importorskip("modelopt", reason="nvidia-modelopt, an extra, is not installed")

ALGORITHMS = ("int8_sq", "fp8")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_our_layers_compute_what_modelopts_do(algorithm: str, case: Case, single: RankPool) -> None:
    (distances,) = single.run(distance_from_modelopt, case.model_dir, algorithm)
    assert len(distances) == 4
    for name, (from_theirs, from_exact) in distances.items():
        print(f"{algorithm} {name}: {from_theirs:.1e} from modelopt's, {from_exact:.1e} from exact")
        assert from_theirs < 0.2 * from_exact, name
        assert from_exact > 1e-4, name


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_ranks_hold_what_one_does_and_compute_nearly_the_same(
    algorithm: str, case: Case, single: RankPool, pool: RankPool
) -> None:
    ((data, _),) = single.run(calibration_of, case.model_dir, case.prompts, algorithm, 0)
    file = case.folder / algorithm
    file.write_bytes(data)
    setup = Setup(case.model_dir, quantization=QuantizationConfig(algorithm, 0, file))  # type: ignore[arg-type]
    require_slices(setup, single, pool)
    exact, _ = logits_and_answers(single, Setup(case.model_dir), case)
    one, _ = logits_and_answers(single, setup, case)
    two, _ = logits_and_answers(pool, setup, case)
    # Not to the bit: an activation on the edge between two 8-bit values falls on either side by
    # what the order of a sum does to its last bit.
    for logits in zip(exact, one, two, strict=True):
        wanted, found, split = logits
        distance = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
        between = np.linalg.norm(found - split) / np.linalg.norm(wanted)
        print(f"{algorithm}: {distance:.3f} from the model as it is, {between:.3f} between ranks")
        assert 1e-4 < distance < 0.3
        assert between < distance
