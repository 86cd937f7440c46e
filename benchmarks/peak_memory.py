"""Runs a phase in a process of its own and watches how much memory it and its children take."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

_INTERVAL_S = 0.05
_PAGE_BYTES = 4096


def run_phase(module: str, arguments: Sequence[str]) -> tuple[Mapping[str, Any], int]:
    """What the phase printed as JSON on its last line, and its peak memory in MiB.

    The memory of a process tree is the resident memory of its first process, and of each other one
    what it has for itself: what they share counts once.

    Raises:
        RuntimeError: the phase failed.
    """
    command = [sys.executable, "-m", module, *arguments]
    peak_bytes = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            peak_bytes = max(peak_bytes, _tree_bytes(process.pid))
            time.sleep(_INTERVAL_S)
        assert process.stdout is not None
        printed = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}")
    return orjson.loads(printed.splitlines()[-1]), peak_bytes >> 20


def _tree_bytes(root: int) -> int:
    return _resident(root, shared=True) + sum(_resident(n, shared=False) for n in _below(root))


def _below(process: int) -> list[int]:
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, _read(children).split()):
            found += [child, *_below(child)]
    return found


def _resident(process: int, *, shared: bool) -> int:
    if shared:
        fields = _read(Path(f"/proc/{process}/statm")).split()
        return int(fields[1]) * _PAGE_BYTES if fields else 0
    rollup = _read(Path(f"/proc/{process}/smaps_rollup"))
    private = [line.split() for line in rollup.splitlines() if line.startswith("Private_")]
    return sum(int(kib) for _, kib, _ in private) << 10


def _read(path: Path) -> str:
    """Nothing of a process that has just ended."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
