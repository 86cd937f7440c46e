"""`python -m tests.chaos.worker`: the worker, its shared memory apart from everybody else's.

With NEVA_CHAOS_ROW_S set, `tests.chaos.stub_rank` stands in for the engine's ranks; everything else
is what runs in a pod. Only this module can do that, and no image holds it.
"""

from __future__ import annotations

import os
from pathlib import Path

import worker.supervisor
from tests.chaos.stub_rank import ROW_SECONDS_VARIABLE
from worker.cli import app
from worker.engine.launch import EngineProcesses

SHARED_MEMORY_VARIABLE = "NEVA_CHAOS_SHM"

if __name__ == "__main__":
    worker.supervisor._SHARED_MEMORY = Path(os.environ[SHARED_MEMORY_VARIABLE])
    if ROW_SECONDS_VARIABLE in os.environ:
        EngineProcesses.rank_module = "tests.chaos.stub_rank"
    app(prog_name="worker")
