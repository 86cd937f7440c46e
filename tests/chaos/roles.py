"""Who is who among a run's processes."""

from __future__ import annotations

import os
from enum import Enum
from pathlib import Path

from tests.support.processes import Process, descendants

_CONSUMER = "worker.consumer"


class Role(Enum):
    """Whoever may be killed."""

    CHILD = "Celery child"
    CONSUMER = "Celery parent"
    RANK = "engine rank"
    SUPERVISOR = "supervisor"
    CONTROLLER = "controller"
    BROKER = "broker"


def members(role: Role, below: int, folder: Path | None = None) -> list[Process]:
    """The processes in this role under the process `below`, itself included.

    folder: only those whose environment names it.
    """
    everybody = descendants(below)
    if folder is None:
        everybody += [Process(below, 0, _command(below))]
    found = [p for p in everybody if role_of(p, everybody) is role]
    return found if folder is None else [p for p in found if _mentions(p.pid, folder)]


def role_of(process: Process, everybody: list[Process]) -> Role | None:
    command = process.command
    if _CONSUMER in command:
        consumers = {p.pid for p in everybody if _CONSUMER in p.command}
        return Role.CHILD if process.parent in consumers else Role.CONSUMER
    if "stub_rank" in command or "worker.engine.rank" in command:
        return Role.RANK
    if "tests.chaos.worker" in command:
        return Role.SUPERVISOR
    if "tests.chaos.controller" in command or "tests.chaos.neva run" in command:
        return Role.CONTROLLER
    if "valkey-server" in command:
        return Role.BROKER
    return None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _mentions(pid: int, folder: Path) -> bool:
    try:
        return os.fsencode(f"{folder}\0") in Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
    except OSError:
        return False
