"""The demo's pod for a cluster, as a process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request

import pytest

from demo.bucket import BUCKET
from neva.store import open_store

pytestmark = pytest.mark.e2e


def test_when_the_judge_answers_the_bucket_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    ports = ["--s3-port", "0", "--judge-port", "0"]
    command = [sys.executable, "-m", "demo.cluster", "--host", "127.0.0.1", "--clips", "2", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"ready: 2 clips, S3 (\d+), judge (\d+)\n", line)
        assert found is not None, line
        with urllib.request.urlopen(f"http://127.0.0.1:{found[2]}/v1/models") as answer:
            assert json.load(answer)["data"]

        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{found[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "demo")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "demo")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        keys = {item.key for item in open_store(f"{BUCKET}/").list()}
        assert keys >= {
            "model/config.json",
            "model/model.safetensors",
            "input/prompts.jsonl",
            "input/reference.jsonl",
            "input/context.jsonl",
            "input/videos/clip-000.mp4",
            "input/videos/clip-001.mp4",
        }
        process.terminate()
        assert process.wait(timeout=30) == 0
