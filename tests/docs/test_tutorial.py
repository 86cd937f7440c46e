"""Part 1 of the tutorial as a new user walks through it: by copy and paste, in an empty folder."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.rendering import REPOSITORY
from tests.docs.page import Block, matches, shell_blocks

PAGE = REPOSITORY / "docs" / "tutorial" / "laptop.md"
_MARK = "--- the test's own line: block {number} ended with "
_LIMIT_S = 280


@pytest.mark.e2e
@pytest.mark.timeout(_LIMIT_S + 20)
def test_every_block_runs_in_an_empty_folder_and_prints_what_the_page_shows(
    tmp_path: Path,
) -> None:
    blocks = shell_blocks(PAGE)
    assert [block.stands_in for block in blocks] == [True] + [False] * (len(blocks) - 1)
    folder = tmp_path / "first"
    folder.mkdir()
    printed = _walk(blocks[1:], folder, tmp_path)
    for number, block in enumerate(blocks[1:]):
        said, mark, printed = printed.partition(_MARK.format(number=number))
        code, _, printed = printed.partition("\n")
        where = f"{PAGE.name}, line {block.line}"
        assert (mark, code) != ("", ""), f"{where}: never ended\n{said}"
        assert code == "0", f"{where}: exit code {code}\n{said}"
        if block.shown is not None:
            assert matches(block.shown, said), f"{where} shows\n{block.shown}\nand printed\n{said}"
    assert (folder / "out" / "report.html").exists()


def _walk(blocks: list[Block], folder: Path, tmp_path: Path) -> str:
    """Everything that one shell prints that is given one block after the other."""
    script = tmp_path / "walk.sh"
    script.write_text(
        "".join(
            f'{block.commands}echo "{_MARK.format(number=number)}$?"\n'
            for number, block in enumerate(blocks)
        ),
        encoding="utf-8",
    )
    with subprocess.Popen(
        ["bash", "--norc", script],
        cwd=folder,
        env=_new_users_environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=_LIMIT_S)
            return printed
        finally:
            with contextlib.suppress(ProcessLookupError):  # as it should be: nothing is left
                os.killpg(shell.pid, signal.SIGKILL)


def _new_users_environment(tmp_path: Path) -> dict[str, str]:
    """What the block `Install` leaves behind, and nothing of this machine's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AWS_", "NEVA_", "API_TOKEN"))
    }
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NEVA_BATCH": str(REPOSITORY),
        "NEVA_CACHE_DIR": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
