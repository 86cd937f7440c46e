"""Who may use the engine: everybody together, or one row alone.

After the engine died, one of the rows that were in it may have killed it. Each of them is then
asked alone, with nobody else's rows in the engine, so that the next death names its cause. Two
locks on files, shared by the worker's processes and freed by the kernel when one dies: `turn` is
held while rows are in the engine, `gate` lets whoever wants to be alone go first.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class EngineTurn:
    """This process's right to the engine. Not thread-safe."""

    def __init__(self, scratch_dir: Path) -> None:
        self._gate = os.open(scratch_dir / "engine-gate.lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._turn = os.open(scratch_dir / "engine-turn.lock", os.O_CREAT | os.O_RDWR, 0o600)
        self._shares = False

    def share(self) -> bool:
        """Try to use the engine beside others; call it before every submission.

        False while somebody is, or waits to be, alone: finish what is in flight and `leave`.
        """
        if not _try(self._gate, fcntl.LOCK_SH):
            return False
        try:
            self._shares = self._shares or _try(self._turn, fcntl.LOCK_SH)
        finally:
            fcntl.flock(self._gate, fcntl.LOCK_UN)
        return self._shares

    def take_alone(self) -> bool:
        """Try to have the engine alone; call it again until it is True, then `leave`."""
        return _try(self._gate, fcntl.LOCK_EX) and _try(self._turn, fcntl.LOCK_EX)

    def leave(self) -> None:
        """Nothing of this process is in the engine."""
        fcntl.flock(self._turn, fcntl.LOCK_UN)
        fcntl.flock(self._gate, fcntl.LOCK_UN)
        self._shares = False

    def close(self) -> None:
        os.close(self._gate)
        os.close(self._turn)


def _try(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
