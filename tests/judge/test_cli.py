from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from demo.judge_server import MODEL, load_truths, make_server
from judge.cli import app
from neva.job_file import load_job
from neva.ledger import Ledger, Manifest
from neva.store import open_store

CAPTION = "The red circle moves left."
PROMPTS = [
    {"question_id": n, "video": f"{n}.mp4", "text": "What happens?", "category": "detail"}
    for n in range(3)
]


@pytest.fixture
def endpoint() -> Iterator[str]:
    truths = load_truths(
        [
            {"question_id": 0, "question": "What happens?", "caption": CAPTION, "answer": CAPTION},
        ]
    )
    with make_server(truths) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    write(tmp_path / "prompts.jsonl", PROMPTS)
    write(tmp_path / "context.jsonl", [{"video": p["video"], "caption": CAPTION} for p in PROMPTS])
    write(tmp_path / "reference.jsonl", [{"question_id": n, "text": CAPTION} for n in (2, 0, 1)])
    out = tmp_path / "out"
    out.mkdir()
    answered = [{**p, "response": "The red circle moves right."} for p in PROMPTS[:2]]
    write(out / "outputs.jsonl", answered)
    return tmp_path


def job_file(folder: Path, endpoint: str, **judge: Any) -> Path:
    path = folder / "job.yaml"
    spec = {
        "model": {"uri": "model"},
        "input": {"prompts": "prompts.jsonl", "mediaBasePath": "videos", "mediaType": "video"},
        "output": {"uri": "out/"},
        "judge": {
            "endpoint": endpoint,
            "model": MODEL,
            "context": "context.jsonl",
            "against": ["reference.jsonl"],
            **judge,
        },
    }
    job = {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "VideoNevaJob",
        "metadata": {"name": "kitchen"},
        "spec": spec,
    }
    path.write_text(yaml.safe_dump(job))
    return path


def invoke(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200", "API_TOKEN": "k"})


def test_a_job_is_judged_and_reported(run_folder: Path, endpoint: str) -> None:
    result = invoke("judge", "--job", str(job_file(run_folder, endpoint)))
    assert result.exit_code == 0, result.output
    assert "judged=2 failed=1" in result.output
    assert "stand-in" in result.output
    assert "1 questions without answer: 2" in result.output
    scores = json.loads((run_folder / "out/judge/scores.json").read_bytes())
    assert scores["answers"] == ["reference", "kitchen"]
    assert scores["all"]["scores"] == [100.0, 70.0]
    assert (run_folder / "out/judge/reviews.jsonl").exists()
    assert "is no language model" in (run_folder / "out/report.html").read_text()


def test_the_scores_are_told_to_programs_and_a_pipe_sees_no_bar(
    run_folder: Path, endpoint: str
) -> None:
    result = invoke("judge", "--job", str(job_file(run_folder, endpoint)), "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["all"]["scores"] == [100.0, 70.0]
    assert result.stderr == ""


def test_a_run_is_judged_as_its_own_job_says(run_folder: Path, endpoint: str) -> None:
    job = load_job(job_file(run_folder, endpoint)).model_dump(mode="json", by_alias=True)
    ledger = Ledger(open_store(str(run_folder / "out")))
    ledger.write_manifest(Manifest("run", job, "answers", "model", "prompts", 3, 0, "", []))
    result = invoke("judge", str(run_folder / "out"), "-o", "json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["answers"] == ["reference", "kitchen"]
    both = invoke("judge", str(run_folder / "out"), "--job", "job.yaml")
    assert (both.exit_code, "leave --job out" in both.output) == (2, True)


def test_files_can_be_judged_without_a_job(run_folder: Path, endpoint: str) -> None:
    result = invoke(
        "judge",
        *("--output", str(run_folder / "out")),
        *("--question-file", str(run_folder / "prompts.jsonl")),
        *("--context-file", str(run_folder / "context.jsonl")),
        *("--answers", f"gold={run_folder / 'reference.jsonl'}"),
        *("--endpoint", endpoint, "--model", MODEL, "--no-both-orders", "--concurrency", "2"),
    )
    assert result.exit_code == 0, result.output
    scores = json.loads((run_folder / "out/judge/scores.json").read_bytes())
    assert scores["answers"] == ["gold", "out"]
    assert (scores["num_reviews"], scores["judge"]["both_orders"]) == (2, False)


def test_no_verdict_at_all_is_exit_code_4(run_folder: Path, endpoint: str) -> None:
    write(run_folder / "context.jsonl", [{"video": "0.mp4", "caption": "Something else."}])
    result = invoke("judge", "--job", str(job_file(run_folder, endpoint)))
    assert result.exit_code == 4
    [line] = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error (VerdictUnreadable): not one verdict could be had: ")
    assert len(line) > len("error (VerdictUnreadable): not one verdict could be had: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["judge"], "--job"),
        (["judge", "--job", "/nowhere/job.yaml"], "can't be read"),
        (["judge", "--job", "j.yaml", "--output", "o"], "leave the other file options out"),
        (
            ["judge", "--output", "o", "--question-file", "q", "--answers", "no-name"],
            "NAME=URI",
        ),
        (["report", "/nowhere/at/all"], "no finished run"),
    ],
)
def test_wrong_input_is_exit_code_2(arguments: list[str], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_a_wrong_model_is_exit_code_2(run_folder: Path, endpoint: str) -> None:
    result = invoke("judge", "--job", str(job_file(run_folder, endpoint, model="mixtral")))
    assert result.exit_code == 2
    assert "mixtral" in result.output


def test_a_job_without_answers_says_so(run_folder: Path, endpoint: str) -> None:
    (run_folder / "out/outputs.jsonl").unlink()
    result = invoke("judge", "--job", str(job_file(run_folder, endpoint)))
    assert result.exit_code == 2
    assert "run the job first" in result.output


def test_a_report_needs_no_judge(run_folder: Path) -> None:
    result = invoke("report", str(run_folder / "out"))
    assert result.exit_code == 0, result.output
    assert result.output.strip().endswith("out/report.html")
    told = json.loads(invoke("report", str(run_folder / "out"), "-o", "json").stdout)
    assert told == {"report": result.output.strip()}
    page = (run_folder / "out/report.html").read_text()
    assert "moves right" in page
    assert "Scores" not in page
