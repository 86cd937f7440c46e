from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

NEVA = Path(sys.executable).with_name("neva")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['neva', '--help']\n"
        "from controller.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'megatron', 'boto3', 'celery', 'pydantic', 'numpy'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Run a job file on this machine" in done.stdout
    assert done.stdout.rstrip().endswith("heavy: []")


def test_help_answers_at_once() -> None:
    """Half a second of computing is the promise; what else the machine does is not counted."""
    costs_s = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([NEVA, "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs_s.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs_s) < 0.5


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "status",
        "suspend",
        "resume",
        "cancel",
        "worker",
        "inspect",
        "convert",
        "judge",
        "report",
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = subprocess.run([NEVA, command, "--help"], capture_output=True, text=True, check=True)
    assert "Usage" in done.stdout


def test_an_unknown_command_is_refused() -> None:
    done = subprocess.run([NEVA, "rum"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "rum" in done.stderr


def test_a_missing_job_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [NEVA, "run", tmp_path / "no.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "can't be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_no_run_says_so(tmp_path: Path) -> None:
    done = subprocess.run([NEVA, "status", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no run there" in done.stderr
