"""The S3 server in a process of its own, as demo, tests and benchmarks start it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]


@contextmanager
def s3_process(environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of a new server, which ends with the block.

    Args:
        environment: the server's variables; None: this process's.

    Raises:
        RuntimeError: it does not start.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "demo.s3_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_REPOSITORY,
        env=environment,
        text=True,
    ) as process:
        port = "" if process.stdout is None else process.stdout.readline().strip()
        if not port.isdigit():
            raise RuntimeError("the S3 server does not start: python -m demo.s3_server says why")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
