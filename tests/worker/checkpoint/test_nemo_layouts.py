"""Every way a NeMo checkpoint keeps its weights gives the model it was made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neva.archive import unpack
from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.nemo_writer import Nemo, pack
from tests.worker.engine.rank_functions import Setup, last_logits
from tests.worker.engine.ranks import RankPool

MAX_LOGIT_DIFFERENCE = 1e-5

LAYOUTS: dict[str, dict[str, Any]] = {
    "single rank": {"layout": "single"},
    "mp_rank of 2": {"layout": "mp_rank", "tp": 2},
    "mp_rank of 2, legacy names": {"layout": "mp_rank", "tp": 2, "names": "legacy"},
    "mp_rank of 4, local names": {"layout": "mp_rank", "tp": 4, "names": "local"},
    "tp 2 pp 3, legacy names": {"layout": "tp_pp", "tp": 2, "pp": 3, "names": "legacy"},
    "tp 1 pp 3": {"layout": "tp_pp", "pp": 3},
    "torch_dist": {"layout": "torch_dist"},
    "torch_dist of 2": {"layout": "torch_dist", "tp": 2},
    "torch_dist of 4, local names": {"layout": "torch_dist", "tp": 4, "names": "local"},
    "zarr of 4": {"layout": "zarr", "tp": 4},
    "zarr, legacy names": {"layout": "zarr", "names": "legacy"},
}


def difference(
    pool: RankPool, origin: Origin, path: Path, tower: Path | None = None, base: Path | None = None
) -> float:
    """Largest difference of the engine's logits from transformers'."""
    setup = Setup(path, vision_encoder=tower or origin.tower, base_model=base)
    found = pool.run(last_logits, setup, origin.request)[0]
    return float(np.abs(found - origin.logits[: len(found)]).max())


def nemo_of(origin: Origin, layout: str) -> Nemo:
    nemo = origin.nemo()
    for key, value in LAYOUTS[layout].items():
        setattr(nemo, key, value)
    return nemo


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_llama_in_any_layout_equals_transformers(
    layout: str, llama: Origin, pool: RankPool, tmp_path: Path
) -> None:
    directory = nemo_of(llama, layout).write(tmp_path / "nemo")
    assert difference(pool, llama, directory) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("layout", ["single rank", "tp 2 pp 3, legacy names", "torch_dist of 2"])
def test_layernorm1p_squared_relu_and_partial_rotary_equal_transformers(
    layout: str, nemotron: Origin, pool: RankPool, tmp_path: Path
) -> None:
    directory = nemo_of(nemotron, layout).write(tmp_path / "nemo")
    assert difference(pool, nemotron, directory) <= MAX_LOGIT_DIFFERENCE


@pytest.mark.parametrize("pool", [2], indirect=True)
@pytest.mark.parametrize("layout", ["mp_rank of 2", "torch_dist of 2", "zarr of 4"])
def test_a_tar_is_read_where_it_lies(
    layout: str, llama: Origin, pool: RankPool, tmp_path: Path
) -> None:
    directory = nemo_of(llama, layout).write(tmp_path / "nemo")
    file = pack(directory, tmp_path / "model.nemo")
    assert difference(pool, llama, file) <= MAX_LOGIT_DIFFERENCE
    compressed = pack(directory, tmp_path / "compressed.nemo", compress=True)
    unpacked = unpack(compressed, tmp_path / "unpacked")
    assert difference(pool, llama, unpacked) <= MAX_LOGIT_DIFFERENCE
