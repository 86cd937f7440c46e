"""Processes that must not outlive the one that started them, and what they leave behind."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

WORKER_FOLDER = "neva-worker"  # a worker's private directories, on disk and in shared memory
SHARED_MEMORY = Path("/dev/shm")

_PR_SET_PDEATHSIG = 1
_held_locks: list[int] = []  # of private directories, until this process ends
_PARENT_CHECK_INTERVAL_S = 0.5


def die_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Have this process sent `signum` when its parent dies, however the parent dies.

    Linux does it in the kernel (prctl(2), PR_SET_PDEATHSIG); elsewhere a thread watches.

    Args:
        parent: the parent's process id, by its own word: asked for here, it would be that of
            whoever inherited this process, had the parent died while this one was starting.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, signum) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    else:
        threading.Thread(target=_watch, args=(parent, signum), daemon=True).start()
    if os.getppid() != parent:  # it is dead already
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


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process among all that ever ran, so that its machine can tell whether it is gone.

    Attributes:
        machine: this start of the machine, and the name space of its process ids.
        started: when the process started, in the kernel's ticks; ids are used again.
    """

    machine: str
    pid: int
    started: str

    @classmethod
    def of_this_process(cls) -> ProcessIdentity:
        return cls(_machine(), os.getpid(), _started(os.getpid()))

    @property
    def is_gone(self) -> bool:
        """It has ended for sure; False for one of another machine, too."""
        return self.machine == _machine() and _started(self.pid) != self.started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:  # no Linux
        return os.uname().nodename


def _started(pid: int) -> str:
    """ "" for a process that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        # Without /proc an id in use is taken for the same process: at worst it is waited for.
        return "" if Path("/proc/self/stat").exists() or not is_alive(pid) else "alive"
    # pid (name) state …; the name may hold spaces and parentheses
    state, *fields = stat.rpartition(")")[2].split()
    return "" if state in "ZX" else fields[18]


def private_dir(base: Path, name: str) -> Path:
    """A new directory below `base` for this process alone.

    Removes those of the same name whose processes were killed before they could. Each owner holds
    a lock that the kernel frees with the process; ids would not do where containers with process
    ids of their own share the directory.
    """
    base.mkdir(parents=True, exist_ok=True)
    remove_orphans(base, name)
    # Hidden until it is locked: another process must not take it for an orphan.
    folder = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=base))
    lock = _lock(folder)
    if lock is None:
        raise OSError(f"{folder} can't be locked")
    _held_locks.append(lock)
    return folder.rename(folder.with_name(folder.name.removeprefix(".")))


def remove_orphans(base: Path, name: str) -> None:
    """Delete the private directories of this name whose owners are dead."""
    for path in base.glob(f"{name}-*"):
        lock = _lock(path)
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


@contextmanager
def private_temporary_files(name: str) -> Iterator[None]:
    """Have what this process makes with `tempfile` lie in a private directory meanwhile.

    A process that is killed leaves it all behind: the next one of this name removes it.
    """
    before = tempfile.tempdir
    folder = private_dir(Path(tempfile.gettempdir()), name)
    tempfile.tempdir = str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock; None when another process holds it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _watch(parent: int, signum: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_CHECK_INTERVAL_S)
    os.kill(os.getpid(), signum)
