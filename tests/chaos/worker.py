"""`python -m tests.chaos.worker`: the worker, its shared memory apart from everybody else's.

With NEVA_CHAOS_ROW_S set, `tests.chaos.stub_rank` stands in for the engine's ranks; everything else
is what runs in a pod. Only this module can do that, and no image holds it.
"""

from __future__ import annotations

import os
from pathlib import Path

import neva.process
from tests.chaos import variables
from worker.cli import app
from worker.engine.launch import EngineProcesses

if __name__ == "__main__":
    neva.process.SHARED_MEMORY = Path(os.environ[variables.SHARED_MEMORY])
    if variables.ROW_SECONDS in os.environ:
        EngineProcesses.rank_module = "tests.chaos.stub_rank"
    app(prog_name="worker")
