"""A directory at its worst: crashes between any two steps, power cuts, disks that refuse."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from neva.ledger import FinishedRow, Ledger
from neva.store import (
    AlreadyExists,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    put_if_absent_or_same,
)
from neva.store.base import HIDDEN_NAME_PREFIX
from neva.store.file import FileStore

_DIES_AT = """
import os, sys
from pathlib import Path
from neva.store.file import FileStore
def die(*_, **__): os.kill(os.getpid(), 9)
real_link, step = os.link, sys.argv[2]
if step == "link": os.link = die
if step == "rename": Path.replace = die
if step == "after link":
    def link(*a, **k):
        real_link(*a, **k)
        die()
    os.link = link
FileStore(Path(sys.argv[1])).put("shards/0/commit.json", b"mine", if_absent=step != "rename")
"""


def visible(store: FileStore) -> dict[str, bytes]:
    return {info.key: store.get(info.key) for info in store.list()}


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("step", "found"),
    [
        ("link", {}),
        ("rename", {}),
        ("after link", {"shards/0/commit.json": b"mine"}),
    ],
)
def test_a_writer_killed_between_two_steps_leaves_all_or_nothing(
    tmp_path: Path, step: str, found: dict[str, bytes]
) -> None:
    command = [sys.executable, "-c", _DIES_AT, str(tmp_path), step]
    killed = subprocess.run(command, check=False)
    assert killed.returncode == -signal.SIGKILL
    store = FileStore(tmp_path)
    assert visible(store) == found
    if found:
        with pytest.raises(AlreadyExists):
            put_if_absent_or_same(store, "shards/0/commit.json", b"theirs")
    put_if_absent_or_same(store, "shards/0/commit.json", b"mine")
    assert visible(store) == {"shards/0/commit.json": b"mine"}


@pytest.mark.parametrize("if_absent", [True, False])
def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, if_absent: bool
) -> None:
    done: list[str] = []
    real_fsync, real_link, real_replace = os.fsync, os.link, Path.replace

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        hidden = path.name.startswith(HIDDEN_NAME_PREFIX)
        done.append("content" if hidden else str(path.relative_to(tmp_path)))
        real_fsync(descriptor)

    def link(*arguments: Any, **options: Any) -> None:
        done.append("name")
        real_link(*arguments, **options)

    def replace(path: Path, target: Path) -> Path:
        done.append("name")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "replace", replace)
    FileStore(tmp_path / "run").put("shards/0/claim.json", b"x", if_absent=if_absent)
    assert done == ["content", "name", "run/shards/0", "run/shards", "run", "."]
    done.clear()
    FileStore(tmp_path / "run").put("shards/0/commit.json", b"x", if_absent=if_absent)
    assert done == ["content", "name", "run/shards/0"], "the others are there already"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("step", ["fsync", "link", "replace", "mkdir"])
def test_a_disk_that_refuses_is_unavailable_and_the_same_write_works_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    store = FileStore(tmp_path)
    store.put("a/old", b"old")
    owner = {"fsync": os, "link": os, "replace": Path, "mkdir": Path}[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, fails_with(number))
        with pytest.raises(StoreUnavailable, match=os.strerror(number)) as caught:
            if step == "replace":
                store.put("a/old", b"new")
            else:
                store.put("a/new", b"new", if_absent=True)
        assert caught.value.retryable
    assert visible(store) == {"a/old": b"old"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"], "no litter"
    put_if_absent_or_same(store, "a/new", b"new")
    assert store.get("a/new") == b"new"


def test_a_name_that_could_not_be_synced_is_recognised_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is there, but its writer was told of an error."""
    ledger = Ledger(FileStore(tmp_path))
    rows = [FinishedRow(0, "1", {"response": "x"}, None)]
    with monkeypatch.context() as patched:
        patched.setattr("neva.store.local._sync_directory", fails_with(errno.EIO))
        with pytest.raises(StoreUnavailable):
            ledger.write_part(0, 1, 1, rows)
    ref = ledger.write_part(0, 1, 1, rows)
    assert [row.row_id for row in ledger.read_parts([ref])] == ["1"]


@pytest.mark.parametrize("step", ["fsync", "link", "mkdir"])
def test_a_read_only_disk_is_denied_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    owner = {"fsync": os, "link": os, "mkdir": Path}[step]
    monkeypatch.setattr(owner, step, fails_with(errno.EROFS))
    with pytest.raises(StoreDenied, match="Read-only file system") as caught:
        FileStore(tmp_path).put("a/b", b"", if_absent=True)
    assert not caught.value.retryable


def test_a_file_too_large_for_the_system_leaves_the_old_one(tmp_path: Path) -> None:
    """A real refusal in the middle of a write, not a made-up one."""
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from neva.store import StoreUnavailable\n"
        "from neva.store.file import FileStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: FileStore(Path(sys.argv[1])).put('a', bytes(20_000))\n"
        "except StoreUnavailable as error: print(error.message)\n"
    )
    store = FileStore(tmp_path)
    store.put("a", b"old")
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "File too large" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert store.get("a") == b"old"


def test_a_rivals_link_is_never_taken_for_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that says EEXIST, as NFS does, to both the loser and a winner it forgot about."""
    store = FileStore(tmp_path)
    real_link = os.link

    def rival_is_first(source: Path, target: Path, **options: bool) -> None:
        Path(target).write_bytes(b"theirs")
        real_link(source, target, **options)

    monkeypatch.setattr(os, "link", rival_is_first)
    with pytest.raises(AlreadyExists):
        store.put("a", b"mine", if_absent=True)
    assert visible(store) == {"a": b"theirs"}


def test_what_is_neither_refused_nor_denied_names_what_lies_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="share a name"):
        FileStore(tmp_path / "file").put("a", b"", if_absent=True)


def test_a_folder_that_can_not_be_made_is_named_with_the_systems_words() -> None:
    with pytest.raises(StoreUnavailable, match=r"/proc/nowhere/a can't be made.* No such file"):
        FileStore(Path("/proc/nowhere")).put("a/b", b"")
