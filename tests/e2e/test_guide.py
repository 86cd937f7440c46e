"""Both example command lines of NeMo's guide, and the judge's line on what they write."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from demo.judge_server import MODEL, make_server, read_truths
from tests.controller.evaluate.lines import FINETUNED_LINE, PROJECTOR_LINE, words
from tests.support.jobs import DEMO_MODEL, NEVA
from worker.checkpoint.to_nemo import NemoPaths, convert_to_nemo

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NUM_QUESTIONS = 6
# Of this machine: the guide's four GPUs are two ranks on its CPU.
PLACES = {"devices": 2, "prompts": "prompts.jsonl", "videos": "videos"}


@pytest.fixture
def folder(tmp_path: Path, clips: Path) -> Path:
    """Two clips with their questions, and no conf/."""
    for name in ("prompts.jsonl", "context.jsonl"):
        lines = (clips / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[:NUM_QUESTIONS]), encoding="utf-8")
    (tmp_path / "videos").symlink_to(clips / "videos")
    return tmp_path


def neva(folder: Path, *arguments: str, together: bool = False) -> subprocess.CompletedProcess[str]:
    """The command, run in a folder as a user would.

    Args:
        together: stdout holds both streams, as on a terminal.
    """
    environment = {
        **os.environ,
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "NEVA_CACHE_DIR": str(folder / "cache"),
        "NEVA_SCRATCH_DIR": str(folder),
        "NEVA_SHARDS_IN_FLIGHT": "1",
        "OMP_NUM_THREADS": "1",
        "API_TOKEN": "nvapi-x",
    }
    stderr = subprocess.STDOUT if together else subprocess.PIPE
    done = subprocess.run(
        [NEVA, *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


@contextmanager
def judge(clips: Path) -> Iterator[str]:
    """Base URL of the demo's judge, who knows the truth."""
    server = make_server(read_truths(clips))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _name_the_tower(config_file: Path, tower: Path) -> None:
    """As a checkpoint that was trained on this machine has it."""
    config = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    config["mm_cfg"]["vision_encoder"]["from_pretrained"] = str(tower)
    config_file.write_text(yaml.safe_dump(config), encoding="utf-8")


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_guides_lines_answer_rightly_and_feed_its_judge(
    folder: Path, clips: Path, truth: dict[int, str]
) -> None:
    paths = NemoPaths(folder / "projector", folder / "tower", folder / "base.nemo")
    convert_to_nemo(DEMO_MODEL, paths, "torch_dist", "v1")
    _name_the_tower(folder / "projector" / "model_config.yaml", folder / "tower")

    projector = {**PLACES, "model": "projector", "base": "base.nemo", "output": "projector.jsonl"}
    finetuned = {**PLACES, "model": DEMO_MODEL, "output": "finetuned.jsonl"}
    first = neva(
        folder,
        *("evaluate", *words(PROJECTOR_LINE, projector), "trainer.accelerator=cpu"),
        together=True,
    ).stdout
    second = neva(
        folder,
        *("evaluate", *words(FINETUNED_LINE, finetuned), "trainer.accelerator=cpu", "-o", "json"),
    )
    told = json.loads(second.stdout)
    assert (told["outputFile"], told["answers"]) == ("finetuned.jsonl", NUM_QUESTIONS)
    assert told["run"]["phase"] == "Succeeded"
    assert f"vision_encoder={folder}/tower, as the checkpoint names it" in first
    assert "there is no conf/neva_inference.yaml here; taking " in first
    assert f"run: {folder}/projector.run/" in first
    answers = _records(folder / "projector.jsonl")
    assert {a["question_id"]: a["text"] for a in answers} == {
        number: truth[number] for number in range(NUM_QUESTIONS)
    }
    assert first.index("CLEAN RESPONSE: ") < first.index("Succeeded: "), "not only at the end"
    shown = first.split("------------- PROMPT ")[1:]
    assert [text.partition(" ---")[0] for text in shown] == [f"{n} of 6" for n in range(1, 7)]
    for text, answer in zip(shown, answers, strict=True):
        assert f"\n{answer['full_text']}\n\nCLEAN RESPONSE: {answer['text']}\n" in text
    others = _records(folder / "finetuned.jsonl")
    for key in ("full_text", "text", "prompt"):
        assert [a[key] for a in answers] == [a[key] for a in others]

    with judge(clips) as endpoint:
        judged = neva(
            folder,
            *("mixtral-eval", "--model-name-list", "projector", "finetuned"),
            *("--media-type", "video", "--question-file", "prompts.jsonl"),
            *("--responses-list", "projector.jsonl", "finetuned.jsonl", "--answers-dir", "./"),
            *("--context-file", "context.jsonl", "--output", "./output.json"),
            *("--endpoint", endpoint, "--model", MODEL),
        )
    assert judged.stdout.splitlines()[0] == "all 100.0 100.0"
    assert len(_records(folder / "output.json")) == NUM_QUESTIONS
