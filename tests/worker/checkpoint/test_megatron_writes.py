"""What megatron-core's own distributed checkpointing writes is read as it was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worker.checkpoint.conftest import Origin
from tests.worker.checkpoint.nemo_writer import projector_tensors
from tests.worker.checkpoint.test_nemo_layouts import MAX_LOGIT_DIFFERENCE, difference
from tests.worker.checkpoint.test_nemo_parts import base_of
from tests.worker.engine.rank_functions import Setup, save_distributed
from tests.worker.engine.ranks import RankPool


@pytest.mark.parametrize("pool", [1, 2], indirect=True)
def test_a_base_model_of_megatron_core(llama: Origin, pool: RankPool, tmp_path: Path) -> None:
    base = base_of(llama)
    directory = base.write(tmp_path / "base")
    (directory / "model_weights.ckpt").unlink()
    weights = directory / "model_weights"
    weights.mkdir()
    pool.run(save_distributed, Setup(llama.model.directory), weights)
    nemo = llama.nemo()
    nemo.tensors = projector_tensors(llama.model.reference)
    model = nemo.write(tmp_path / "projector")
    assert difference(pool, llama, model, base=directory) <= MAX_LOGIT_DIFFERENCE
