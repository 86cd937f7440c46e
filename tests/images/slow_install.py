"""`make test-images`: the Dockerfile's own install steps in folders of this machine.

Minutes, and packages from an index, so not part of `make test`. Each RUN of the build stages is run
as it stands, with the image's folders exchanged for temporary ones. For the worker, PyTorch's
gigabytes are only resolved, not installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.dockerfile import REPOSITORY, Instruction, ours

pytestmark = pytest.mark.timeout(1800)
_FOLDERS = ("/src", "/opt/neva", "/dependencies", "/wheels")


class Build:
    """The file system of a build, below one temporary folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / "src").mkdir(parents=True)
        tools = root / "tools"
        subprocess.run([sys.executable, "-m", "venv", tools], check=True)
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PIP_"))},
            "PATH": f"{tools / 'bin'}:{os.environ['PATH']}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def path(self, inside: str) -> Path:
        return self._root / inside.strip("/")

    def stage(self, name: str, arguments: dict[str, str] | None = None) -> None:
        """Run a stage's COPY and RUN instructions on top of what is there."""
        for instruction in ours().stages[name].instructions:
            if instruction.name == "COPY" and not instruction.words.startswith("--from"):
                self._copy(instruction)
            elif instruction.name == "RUN":
                self._run(instruction.words, arguments or {})

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.as_list
        for source in sources:
            to = self.path("src") / target
            if source.endswith("/"):
                shutil.copytree(REPOSITORY / source, to, dirs_exist_ok=True)
            else:
                shutil.copy(REPOSITORY / source, to)

    def _run(self, script: str, arguments: dict[str, str]) -> None:
        for folder in _FOLDERS:
            script = re.sub(rf"(?<![\w/.-]){folder}\b", str(self.path(folder)), script)
        subprocess.run(
            ["sh", "-ec", script],
            cwd=self.path("src"),
            env={**self._environment, **arguments},
            check=True,
        )


@pytest.fixture
def build(tmp_path: Path) -> Build:
    built = Build(tmp_path)
    built.stage("build")
    return built


def test_the_controllers_steps_give_a_neva_without_torch(build: Build, tmp_path: Path) -> None:
    build.stage("source")
    build.stage("controller-build")

    binaries = build.path("/opt/neva/bin")
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def output(*command: str) -> str:
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout

    assert "Usage: neva" in output("neva", "--help")
    for command in ("run", "status", "judge", "report", "ui"):
        assert "Usage" in output("neva", command, "--help")
    modules = "import controller.reconciler, controller.start, judge.run, kopf, kubernetes"
    output("python", "-W", "error", "-c", modules)
    output("python", "-c", "from controller.ui import page; page.style(), page.program()")
    found = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('pip'))"
    assert output("python", "-c", found).split() == ["None", "None"]
    assert "Valkey" in output("valkey-server", "--version")
    code = "import neva, pathlib; print(pathlib.Path(neva.__file__).parent / 'conf')"
    assert (Path(output("python", "-c", code).strip()) / "judge").is_dir()


def test_the_workers_dependencies_resolve(build: Build) -> None:
    python = build.path("/opt/neva/bin/python")
    wheel = next(build.path("/dependencies").glob("*.whl"))
    options = ["--dry-run", "--quiet", "--only-binary", ":all:"]
    constraints = ["--constraint", REPOSITORY / "constraints.txt"]
    command = [sys.executable, "-m", "pip", "--python", python, "install", *options, *constraints]
    subprocess.run([*command, f"{wheel}[worker,demo]"], check=True)
