"""What runs under a process, from /proc; and a port for one."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: str


def descendants(pid: int) -> list[Process]:
    """All living processes below `pid`, parents first."""
    everybody = _all()
    found: list[Process] = []
    frontier = [pid]
    while frontier:
        children = [p for p in everybody if p.parent in frontier]
        found += children
        frontier = [p.pid for p in children]
    return found


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    return any(p.pid == pid for p in _all())


def engine_ranks(pid: int) -> list[Process]:
    return [p for p in descendants(pid) if "worker.engine.rank" in p.command]


def celery_children(pid: int) -> list[Process]:
    """Pool processes: consumers whose parent is a consumer."""
    consumers = [p for p in descendants(pid) if "worker.consumer" in p.command]
    return [p for p in consumers if p.parent in {q.pid for q in consumers}]


def supervisors(pid: int) -> list[Process]:
    return [p for p in descendants(pid) if "-m worker --output" in p.command]


def _all() -> list[Process]:
    processes = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            stat = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended in between
        # pid (name) state parent …; the name may hold spaces and parentheses
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            processes.append(Process(int(folder.name), int(parent), command))
    return processes


def free_port() -> int:
    """A TCP port that nobody listens at now."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
