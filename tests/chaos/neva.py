"""`python -m tests.chaos.neva run job.yaml`: the `neva` command with `tests.chaos.worker`."""

from __future__ import annotations

from controller.cli import main
from controller.local.worker_process import LocalWorker

if __name__ == "__main__":
    LocalWorker.module = "tests.chaos.worker"
    main()
