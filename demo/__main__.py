"""`make demo`: the whole job on this machine, on real files, servers and processes.

Generates clips, uploads them and the demo's model to an S3 server, lets `neva run` answer with two
engine ranks, has a stand-in judge compare the answers with the known truth, and tells how it went.
Everything that the run wrote is then in demo-run/.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from demo.bucket import BUCKET, upload_demo
from demo.clips import write_clips
from demo.judge_server import MODEL as JUDGE_MODEL
from demo.s3_process import s3_process
from neva.store import open_store
from neva.tethered import tethered

NUM_CLIPS = 24
SEED = 7
FOLDER = Path("demo-run")
_START_S = 30.0


def main() -> int:
    started_s = time.monotonic()
    console = Console()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]  # a profile or endpoint of the user's would win over the demo's
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    shutil.rmtree(FOLDER, ignore_errors=True)
    stages_s: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        with _timed(stages_s, "generate clips"):
            write_clips(FOLDER / "input", NUM_CLIPS, SEED)
        with _timed(stages_s, "start servers"):
            os.environ.update(stack.enter_context(_s3_server()))
            judge_url = stack.enter_context(_judge_server(FOLDER / "input" / "truth.jsonl"))
        with _timed(stages_s, "upload"):
            upload_demo(FOLDER / "input")
        job_file = FOLDER / "job.yaml"
        job_file.write_text(yaml.safe_dump(_job(judge_url), sort_keys=False), encoding="utf-8")
        done = subprocess.run([sys.executable, "-m", "controller", "run", job_file], check=False)
        _download(FOLDER / "output")
    if done.returncode != 0:
        console.print(f"[red]neva run failed[/] with exit code {done.returncode}")
        return done.returncode

    summary = json.loads((FOLDER / "output" / "summary.json").read_text(encoding="utf-8"))
    stages_s.update(summary["stages_s"])
    table = Table("stage", "seconds", title="where the time went")
    for name, took_s in stages_s.items():
        table.add_row(name, f"{took_s:.1f}")
    console.print(table)
    console.print(f"answers: {FOLDER / 'output' / 'outputs.jsonl'}")
    console.print(f"report:  {FOLDER / 'output' / 'report.html'}")
    print(
        f"demo: answered={summary['answered']} failed={summary['failed']} "
        f"fully_right={_share_right():.2f} judged={summary['judge']['num_judged']} "
        f"seconds={time.monotonic() - started_s:.0f}"
    )
    return 0


def _job(judge_url: str) -> dict[str, Any]:
    return {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "demo"},
        "spec": {
            "model": {"uri": f"{BUCKET}/model/", "tensorParallelSize": 2, "precision": "fp32"},
            "input": {
                "prompts": f"{BUCKET}/input/prompts.jsonl",
                "mediaBasePath": f"{BUCKET}/input/videos/",
                "mediaType": "video",
            },
            "inference": {
                "greedy": True,
                "tokens_to_generate": 24,
                "insert_media_token": "left",
            },
            "output": {"uri": f"{BUCKET}/runs/demo/"},
            "shards": {"maxRows": 12},
            "judge": {
                "endpoint": judge_url,
                "model": JUDGE_MODEL,
                "context": f"{BUCKET}/input/context.jsonl",
                "against": [f"{BUCKET}/input/reference.jsonl"],
            },
        },
    }


def _share_right() -> float:
    """Share of all questions whose answer is the truth, word for word."""
    truth = {row["question_id"]: row["answer"] for row in _rows(FOLDER / "input/truth.jsonl")}
    answers = _rows(FOLDER / "output/outputs.jsonl")
    num_right = sum(row["response"] == truth[row["question_id"]] for row in answers)
    return float(num_right / len(truth))


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _download(folder: Path) -> None:
    store = open_store(f"{BUCKET}/runs/demo/")
    for item in store.list():
        target = folder / item.key
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(item.key, target)


@contextlib.contextmanager
def _s3_server() -> Iterator[dict[str, str]]:
    """The environment that leads to a new S3 server."""
    with s3_process() as url:
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_REGION": "us-east-1",
        }


@contextlib.contextmanager
def _judge_server(truth: Path) -> Iterator[str]:
    """The base URL of a new judge server."""
    port_file = FOLDER / "judge.port"
    command = tethered([sys.executable, "-m", "demo.judge_server"])
    with subprocess.Popen([*command, "--truth", truth, "--port-file", port_file]) as process:
        deadline_s = time.monotonic() + _START_S
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError("the judge server does not start")
            time.sleep(0.02)
        yield f"http://127.0.0.1:{port_file.read_text(encoding='utf-8').strip()}/v1"
        process.terminate()


@contextlib.contextmanager
def _timed(stages_s: dict[str, float], name: str) -> Iterator[None]:
    started_s = time.monotonic()
    yield
    stages_s[name] = time.monotonic() - started_s


if __name__ == "__main__":
    sys.exit(main())
