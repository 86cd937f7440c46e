from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.worker.engine.models import TinyLlava, make_request, write_media
from tests.worker.engine.quantization.rank_functions import quantized_parts
from tests.worker.engine.rank_functions import Setup, generate, last_logits
from tests.worker.engine.ranks import RankPool
from worker.engine.protocol import GenerateRequest, Outcome
from worker.engine.quantization.calibrate import CalibrationPrompt


@dataclass(frozen=True)
class Case:
    """A model and rows to ask it, which it is calibrated on, too."""

    model_dir: Path
    folder: Path
    requests: list[GenerateRequest]

    @property
    def prompts(self) -> list[CalibrationPrompt]:
        return [
            CalibrationPrompt(r.before_ids, r.after_ids, r.media) for r in self.requests if r.media
        ]


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    """One rank, beside `pool`."""
    pool = RankPool(1, tmp_path_factory.mktemp("single"))
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def case(model: TinyLlava, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("quantized")
    media = [write_media(folder / f"media-{n}", num_frames=2 + n % 2, seed=n) for n in range(4)]
    requests = [
        make_request(f"row {n}", 10 + 3 * n, media=ref, seed=n) for n, ref in enumerate(media)
    ]
    return Case(model.directory, folder, requests)


def logits_and_answers(
    pool: RankPool, setup: Setup, case: Case
) -> tuple[list[np.ndarray], list[dict[str, Outcome]]]:
    """Logits after each prompt, and each rank's outcomes."""
    logits = [pool.run(last_logits, setup, request)[0] for request in case.requests]
    return logits, pool.run(generate, setup, case.requests)


def largest_difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def require_slices(setup: Setup, single: RankPool, pool: RankPool) -> None:
    """Two ranks hold, together and to the bit, what one rank holds of the first layer."""
    (whole,) = single.run(quantized_parts, setup)
    parts = pool.run(quantized_parts, setup)
    assert len(whole) == 4
    for name, wanted in whole.items():
        for key, data in wanted.items():
            rows = [np.frombuffer(part[name][key], np.uint8) for part in parts]
            if name.endswith(("linear_proj", "linear_fc2")):  # split by inputs
                num_outputs = 1 if key == "factors" else 128
                found = np.concatenate([row.reshape(num_outputs, -1) for row in rows], axis=1)
            elif key == "factors":
                found = rows[1]
            elif name.endswith("linear_fc1"):  # each rank has gates, then ups
                found = np.concatenate([row.reshape(2, -1) for row in rows], axis=1)
            else:
                found = np.concatenate(rows)
            assert found.tobytes() == data, (name, key)
