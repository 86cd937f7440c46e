"""ministack, a second S3 server, from an environment of its own: `make test-stores`.

Run as a program it starts the server on a free port and in memory, runs the command that follows
with NEVA_TEST_S3_URI and the AWS_ variables leading there, and ends it.

    python -m tests.support.ministack PATH_OF_MINISTACK COMMAND...
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

_BUCKET = "ledger"
_START_S = 60


@contextmanager
def ministack(program: str) -> Iterator[dict[str, str]]:
    """A running server with one bucket; yields the environment that leads to it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="ministack-") as folder:
        server = subprocess.Popen(
            [Path(program).absolute()],
            env={
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "BIND_HOST": "127.0.0.1",  # all addresses otherwise
                "GATEWAY_PORT": str(port),
                "S3_PERSIST": "1",
                "S3_DATA_DIR": str(Path(folder) / "s3"),
                "SERVICES": "s3",
            },
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            environment = {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
                "AWS_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            _make_bucket(environment, server)
            yield {**environment, "NEVA_TEST_S3_URI": f"s3://{_BUCKET}/tests/"}
        finally:
            server.terminate()
            server.wait(30)


def _make_bucket(environment: dict[str, str], server: subprocess.Popen[bytes]) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    deadline_s = time.monotonic() + _START_S
    while True:
        try:
            client.create_bucket(Bucket=_BUCKET)
        except BotoCoreError as error:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("ministack did not start") from error
            time.sleep(0.2)
        else:
            client.close()
            return


def main() -> int:
    """The command's exit code."""
    with ministack(sys.argv[1]) as environment:
        return subprocess.run(
            sys.argv[2:], env={**os.environ, **environment}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
