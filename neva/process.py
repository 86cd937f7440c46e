"""Processes that must not outlive the one that started them, and what they leave behind."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PARENT_CHECK_INTERVAL_S = 0.5


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Have this process sent `signum` when its parent dies, however the parent dies.

    Linux does it in the kernel (prctl(2), PR_SET_PDEATHSIG); elsewhere a thread watches.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signum) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    else:
        threading.Thread(target=_watch, args=(parent, signum), daemon=True).start()
    if os.getppid() != parent:  # it died in between
        os.kill(os.getpid(), signum)


def is_alive(pid: int) -> bool:
    """Whether a process of this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def private_dir(base: Path, name: str) -> Path:
    """A new directory below `base` for this process alone.

    Removes those of the same name whose processes were killed before they could.
    """
    base.mkdir(parents=True, exist_ok=True)
    for path in base.glob(f"{name}-*-*"):
        owner = path.name.removeprefix(f"{name}-").partition("-")[0]
        if owner.isdecimal() and not is_alive(int(owner)):
            shutil.rmtree(path, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{name}-{os.getpid()}-", dir=base))


def _watch(parent: int, signum: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_INTERVAL_S)
    os.kill(os.getpid(), signum)
