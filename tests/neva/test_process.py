from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from neva.process import is_alive, private_dir

HOLD = (
    "import sys; from pathlib import Path; from neva.process import is_alive, private_dir;"
    "folder = private_dir(Path(sys.argv[1]), 'worker'); (folder / 'pixels').write_bytes(b'x');"
    "print(folder, flush=True); sys.stdin.read()"
)


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_has_is_kept(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed:  # type: ignore[call-overload]
        left_behind = Path(killed.stdout.readline().strip())
        other = tmp_path / "other-kind"
        other.mkdir()
        assert private_dir(tmp_path, "worker").is_dir()
        assert (left_behind / "pixels").exists(), "its owner lives"
        killed.kill()
    mine = private_dir(tmp_path, "worker")
    assert not left_behind.exists()
    assert mine.is_dir()
    assert other.is_dir()


# Its starter is dead before it asks to die with it.
ORPHAN = (
    "import os, sys, time; from neva.process import die_with_parent; time.sleep(0.5);"
    "die_with_parent(int(sys.argv[1])); time.sleep(60)"
)
START_AND_DIE = (
    "import os, subprocess, sys;"
    "child = subprocess.Popen([sys.executable, '-c', sys.argv[1], str(os.getpid())]);"
    "print(child.pid, flush=True); os.kill(os.getpid(), 9)"
)


def test_a_process_whose_parent_died_while_it_was_starting_ends_too() -> None:
    command = [sys.executable, "-c", START_AND_DIE, ORPHAN]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
    deadline_s = time.monotonic() + 20
    while is_alive(orphan):
        assert time.monotonic() < deadline_s, "it outlives its parent"
        time.sleep(0.05)


SPOOL = (
    "import os, tempfile; from neva.process import private_temporary_files\n"
    "with private_temporary_files('neva-run'):\n"
    "    tempfile.NamedTemporaryFile(delete=False)\n"
    "    {end}\n"
)


def test_temporary_files_of_a_killed_process_go_with_the_next_one(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    for end, num_left in (("os.kill(os.getpid(), 9)", 1), ("os.kill(os.getpid(), 9)", 1), ("", 0)):
        command = [sys.executable, "-c", SPOOL.format(end=end)]
        subprocess.run(command, env=environment, check=False)
        assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == num_left
