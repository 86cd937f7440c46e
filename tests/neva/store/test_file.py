"""What only a directory can get wrong: links, modes, half-written files, a full disk."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from neva.reasons import Reason
from neva.store import (
    AlreadyExists,
    NotFound,
    StoreDenied,
    StoreError,
    StoreUnavailable,
    open_store,
)
from neva.store.base import HIDDEN_NAME_PREFIX
from neva.store.file import FileStore
from neva.store.local import written_temporary

_IS_ROOT = os.geteuid() == 0


def test_a_writer_killed_in_the_middle_leaves_nothing_to_see(tmp_path: Path) -> None:
    script = (
        "import io, os, sys\n"
        "from pathlib import Path\n"
        "from neva.store.local import written_temporary\n"
        "class Dying(io.RawIOBase):\n"
        "    def read(self, n=-1):\n"
        "        os.kill(os.getpid(), 9)\n"
        "with written_temporary(Path(sys.argv[1]), Dying()): pass\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -9
    assert [path.name.startswith(HIDDEN_NAME_PREFIX) for path in tmp_path.iterdir()] == [True]
    assert list(FileStore(tmp_path).list()) == []
    with written_temporary(tmp_path, io.BytesIO(b"at work")) as living:
        FileStore(tmp_path).tidy()
        assert list(tmp_path.iterdir()) == [living], "only what the dead left"


def test_a_failed_put_leaves_the_old_content_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileStore(tmp_path)
    store.put("a", b"old")

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(StoreUnavailable, match="No space left") as caught:
        store.put("a", b"new")
    assert caught.value.retryable
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert store.get("a") == b"old"


def test_a_lost_race_leaves_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    store.put("a", b"first")
    monkeypatch.setattr(Path, "is_file", lambda path: False)  # the rival came after this look
    with pytest.raises(AlreadyExists):
        store.put("a", b"second", if_absent=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_that_worked_but_was_told_to_exist_is_a_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_link = os.link

    def link_whose_answer_was_lost(source: Path, target: Path, **options: bool) -> None:
        real_link(source, target, **options)
        raise FileExistsError(errno.EEXIST, "the repeated request found the first one's work")

    monkeypatch.setattr(os, "link", link_whose_answer_was_lost)
    store = FileStore(tmp_path)
    store.put("a", b"mine", if_absent=True)
    assert store.get("a") == b"mine"


def test_a_file_system_without_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*arguments: object, **options: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StoreError, match="hard links") as caught:
        FileStore(tmp_path).put("a", b"", if_absent=True)
    assert caught.value.reason is Reason.UNSUPPORTED_STORE


def test_a_file_and_a_directory_can_not_share_a_name(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("a/b", b"")
    store.put("c", b"")
    for key in ["a", "c/d"]:
        for if_absent in [False, True]:
            with pytest.raises(StoreError, match="share a name"):
                store.put(key, b"", if_absent=if_absent)
    assert [info.key for info in store.list()] == ["a/b", "c"]


def test_outputs_get_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    FileStore(tmp_path).put("a", b"")
    (tmp_path / "plain").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_deleting_the_last_object_removes_its_directories_but_not_the_base(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("a/b/c", b"")
    store.put("a/d", b"")
    store.delete("a/b/c")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "d"]
    store.delete("a/d")
    assert list(tmp_path.iterdir()) == []


def test_putting_while_the_directory_is_emptied_succeeds(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    is_done = threading.Event()

    def put_and_delete() -> None:
        while not is_done.is_set():
            store.put("a/b/other", b"")
            store.delete("a/b/other")

    rival = threading.Thread(target=put_and_delete)
    rival.start()
    try:
        for _ in range(100):
            store.put("a/b/mine", b"x")
            store.delete("a/b/mine")
    finally:
        is_done.set()
        rival.join()


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "1234").write_bytes(b"weights")
    model = tmp_path / "model"
    model.mkdir()
    (model / "weights").symlink_to(tmp_path / "blobs" / "1234")
    (model / "all").symlink_to(tmp_path / "blobs")
    (model / "loop").symlink_to(model)
    (model / "self").symlink_to("self")
    (model / "nowhere").symlink_to("missing")
    store = FileStore(model)
    assert [(info.key, info.size_bytes) for info in store.list()] == [
        ("all/1234", 7),
        ("weights", 7),
    ]
    assert store.get("weights") == b"weights"
    for key in ["self", "nowhere"]:
        assert store.head(key) is None
        with pytest.raises(NotFound):
            store.get(key)


def test_a_confined_store_does_not_follow_links_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    media = tmp_path / "media"
    media.mkdir()
    (media / "inside.mp4").write_bytes(b"x")
    (media / "link.mp4").symlink_to("inside.mp4")
    (media / "out.mp4").symlink_to(tmp_path / "secret")
    (media / "up").symlink_to(tmp_path)
    store = open_store(str(media), confined=True)
    assert [info.key for info in store.list()] == ["inside.mp4", "link.mp4"]
    assert store.get("link.mp4") == b"x"
    for key in ["out.mp4", "up/secret"]:
        with pytest.raises(StoreDenied, match="leads out"):
            store.get(key)
        with pytest.raises(StoreDenied, match="leads out"):
            store.local_path(key)


def test_links_in_a_circle_lead_nowhere_in_a_confined_store_too(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("and")
    (tmp_path / "and").symlink_to("round")
    (tmp_path / "inside.mp4").touch()
    store = open_store(str(tmp_path), confined=True)
    keys = ["round", "round/a.mp4", "and/deep/a.mp4", "inside.mp4"]
    assert store.present(keys) == [False, False, False, True]
    for key in keys[:3]:
        assert store.head(key) is None
        with pytest.raises(NotFound):
            store.get(key)
    assert [info.key for info in store.list()] == ["inside.mp4"]
    assert list(open_store(str(tmp_path / "round"), confined=True).list()) == []


def test_what_is_no_key_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "new\nline").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")).touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "good").touch()
    assert [info.key for info in FileStore(tmp_path).list()] == ["good"]


def test_a_local_file_need_not_be_downloaded(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.put("a/b", b"x")
    path = store.local_path("a/b")
    assert path is not None
    assert path.read_bytes() == b"x"


@pytest.mark.skipif(_IS_ROOT, reason="root may write everywhere")
def test_a_directory_without_the_right_to_write_is_denied(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreDenied, match="check the owner"):
        FileStore(tmp_path).put("a", b"")


def test_a_denied_write_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreDenied, match=r"Permission denied.*check the owner"):
        FileStore(tmp_path).put("a", b"")
