"""`python -m tests.kube.emulator PORT KUBECONFIG`: an emulator to look at with kubectl."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tests.kube.emulator import Emulator

if __name__ == "__main__":
    logs = Path(sys.argv[2]).with_suffix(".logs")
    logs.mkdir(exist_ok=True)
    emulator = Emulator(logs, int(sys.argv[1]))
    emulator.start()
    emulator.write_kubeconfig(Path(sys.argv[2]), "admin")
    sys.stdout.write(f"{emulator.url} {sys.argv[2]}\n")
    sys.stdout.flush()
    threading.Event().wait()
