"""What the demo needs around it in a cluster, as one pod: `python -m demo.cluster`.

An S3 server with the demo's model, clips and prompts in bucket `demo`, and the stand-in judge. The
judge answers only when the bucket is full, so its port tells whether the pod is ready. Everything
is in memory: when the pod goes, so do the answers. Anybody who reaches the ports may read and
write.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from demo.bucket import upload_demo
from demo.clips import write_clips
from demo.judge_server import make_server, read_truths
from demo.s3_server import S3Server


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The demo's S3 server and judge for a cluster.")
    parser.add_argument("--host", default="0.0.0.0", help="address of both servers")
    parser.add_argument("--s3-port", type=int, default=9000, help="0 takes a free one")
    parser.add_argument("--judge-port", type=int, default=9001, help="0 takes a free one")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args(arguments)

    # The first process of a pod dies of no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with (
        S3Server(given.host, given.s3_port) as s3,
        tempfile.TemporaryDirectory(prefix="neva-demo-") as name,
    ):
        folder = Path(name)
        clips = write_clips(folder, given.clips, given.seed)
        _use_own_server(s3.port)
        upload_demo(folder)
        truths = read_truths(folder)
        with make_server(truths, given.judge_port, given.host) as judge:
            judge_port = judge.server_address[1]
            print(f"ready: {len(clips)} clips, S3 {s3.port}, judge {judge_port}", flush=True)
            judge.serve_forever()
    return 0


def _use_own_server(port: int) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        AWS_ACCESS_KEY_ID="demo",
        AWS_SECRET_ACCESS_KEY="demo",
        AWS_REGION="us-east-1",
    )


if __name__ == "__main__":
    sys.exit(main())
