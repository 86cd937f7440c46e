from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from neva.process import private_dir

HOLD = (
    "import sys; from pathlib import Path; from neva.process import private_dir;"
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
