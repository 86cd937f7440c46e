"""`python -m tests.operator.cut operator …`: the `neva` command, killed at one of its API writes.

NEVA_TEST_CUT=before:7 kills this process right before its seventh write, after:7 when the API
server has done it and nobody here has seen the answer. Writes of the Lease don't count: they come
by the clock.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from controller.cli import main
from controller.operator.api import ClientTransport

_lock = threading.Lock()
_count = 0


def cut() -> None:
    """Count the writes, and die at the one that is named."""
    side, _, number = os.environ["NEVA_TEST_CUT"].partition(":")
    call = ClientTransport.__call__

    def counted(self: ClientTransport, method: str, path: str, *rest: Any) -> Any:
        global _count
        if method == "GET" or "/leases" in path:
            return call(self, method, path, *rest)
        with _lock:
            _count += 1
            mine = _count == int(number)
        if mine and side == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(self, method, path, *rest)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    ClientTransport.__call__ = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    cut()
    main()
