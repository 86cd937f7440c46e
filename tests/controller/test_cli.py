from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import _COMMANDS, _OF_PODS, app, main
from neva.ledger import Ledger
from neva.say import DEBUG_VARIABLE, Format

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
        "retry",
        "logs",
        "doctor",
        "compare",
        "gate",
        "version",
        "completion",
    ],
)
def test_every_command_has_help(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output


@pytest.mark.parametrize("name", sorted(_COMMANDS.keys() - {"ui", "completion"} - set(_OF_PODS)))
def test_every_command_for_people_tells_programs_too(name: str) -> None:
    """But for one that shows a page until it is stopped, and one that prints a shell's script."""
    [option] = [p for p in _COMMANDS[name]._load().params if "-o" in p.opts]
    assert option.opts == ["-o", "--output-format"]
    assert option.default is Format.TEXT


def test_an_unknown_command_is_refused() -> None:
    done = subprocess.run([NEVA, "rum"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'run'" in done.stderr


def test_a_missing_job_file_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [NEVA, "run", tmp_path / "no.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("error (InvalidConfig): ")
    assert line.endswith("no.yaml: can't be read: No such file or directory")


def test_completion_knows_commands_and_their_options() -> None:
    def completions(words: str) -> str:
        environment = {
            **os.environ,
            "_NEVA_COMPLETE": "complete_bash",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        done = subprocess.run([NEVA], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert {"status", "suspend"} <= set(completions("neva s").split())
    assert "--interval" in completions("neva status --")
    script = subprocess.run([NEVA, "completion", "bash"], capture_output=True, text=True)
    assert "_NEVA_COMPLETE=complete_bash" in script.stdout


def test_the_version_is_told() -> None:
    done = subprocess.run([NEVA, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"neva-batch {metadata.version('neva-batch')}")
    shown = subprocess.run([NEVA, "version", "-o", "json"], capture_output=True, check=True)
    assert json.loads(shown.stdout)["libraries"]["torch"] == metadata.version("torch")


@pytest.mark.parametrize(
    "arguments", [["--debug", "status", "/nowhere"], ["status", "/nowhere", "--debug"]]
)
def test_debug_shows_where_an_error_comes_from(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEBUG_VARIABLE, "")
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "Traceback" in done.stderr and "facts.py" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error (InvalidConfig): file:///nowhere/manifest.json does not exist")


def test_a_fault_of_the_program_is_one_line_and_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def look(ledger: Ledger) -> None:
        raise KeyError("half a\nmanifest")

    monkeypatch.setenv(DEBUG_VARIABLE, "")
    monkeypatch.setattr("controller.status.cli.look", look)
    monkeypatch.setattr(sys, "argv", ["neva", "status", "/nowhere"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 70
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error (InternalError): KeyError: 'half a")
    assert "--debug" in line
    monkeypatch.setattr(sys, "argv", ["neva", "--debug", "status", "/nowhere"])
    with pytest.raises(KeyError):
        main()


def test_status_of_no_run_says_so(tmp_path: Path) -> None:
    done = subprocess.run([NEVA, "status", tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no run there" in done.stderr
