"""`python -m tests.chaos.neva run job.yaml`: the `neva` command with `tests.chaos.worker`."""

from __future__ import annotations

import os
from pathlib import Path

import neva.process
from controller.cli import main
from controller.local.worker_process import LocalWorker
from tests.chaos import variables

if __name__ == "__main__":
    neva.process.SHARED_MEMORY = Path(os.environ[variables.SHARED_MEMORY])
    LocalWorker.module = "tests.chaos.worker"
    main()
