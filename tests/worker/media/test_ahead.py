"""Media prepared ahead: in order, a bounded number, and nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.errors import RowError
from neva.reasons import Reason
from worker.engine.protocol import MediaRef
from worker.media.ahead import MediaAhead
from worker.media.shared import PreparedMedia, SharedMedia

WAIT_S = 10.0


class Gated:
    """Prepares when it is let; a name with an `!` fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[str] = []
        self.gate = threading.Event()

    def prepare(self, name: str) -> PreparedMedia:
        self.started.append(name)
        assert self.gate.wait(WAIT_S)
        if "!" in name:
            raise RowError(name, reason=Reason.MEDIA_UNREADABLE)
        path = self.folder / f"{name}.f32"
        path.touch()
        return PreparedMedia(MediaRef(name, str(path), (1, 3, 1, 1)), (0,), "pyav")


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    return Gated(tmp_path)


@pytest.fixture
def ahead(gated: Gated) -> Iterator[MediaAhead]:
    ahead = MediaAhead(gated, num_threads=2, max_ahead=3)
    yield ahead
    gated.gate.set()
    ahead.close()


def settle(condition: object) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < deadline_s:  # type: ignore[operator]
        time.sleep(0.005)


def test_media_come_in_order_and_an_error_at_its_place(gated: Gated, ahead: MediaAhead) -> None:
    gated.gate.set()
    queue = ahead.begin(["a", "b!", "c"])
    assert queue.take().ref.key == "a"
    with pytest.raises(RowError, match="b!"):
        queue.take()
    assert queue.take().ref.key == "c"


def test_no_more_than_the_limit_are_begun_before_their_turn(
    gated: Gated, ahead: MediaAhead
) -> None:
    gated.gate.set()
    queue = ahead.begin([str(number) for number in range(20)])
    settle(lambda: len(gated.started) == 3)
    time.sleep(0.05)
    assert sorted(gated.started) == ["0", "1", "2"]
    queue.take()
    settle(lambda: len(gated.started) == 4)
    assert gated.started[3:] == ["3"]
    queue.close()


def test_one_knows_whether_the_next_is_ready(gated: Gated, ahead: MediaAhead) -> None:
    queue = ahead.begin(["a"])
    assert not queue.ready(0.01)
    gated.gate.set()
    assert queue.ready(WAIT_S)
    queue.take()


def test_what_nobody_took_is_deleted_and_what_was_not_begun_never_is(
    gated: Gated, ahead: MediaAhead, tmp_path: Path
) -> None:
    queue = ahead.begin([str(number) for number in range(20)])
    settle(lambda: len(gated.started) == 2)
    queue.close()
    gated.gate.set()
    ahead.close()
    assert len(gated.started) == 2
    assert list(tmp_path.glob("*.f32")) == []


# ---- between processes ----


def made(path: Path, content: bytes = b"pixels") -> PreparedMedia:
    path.write_bytes(content)
    return PreparedMedia(MediaRef("key", str(path), (1, 3, 2, 2)), (0, 7), "decord")


def test_two_that_ask_for_one_video_get_it_from_one_decoding(tmp_path: Path) -> None:
    shared = SharedMedia(tmp_path / "shared", 1 << 20)
    num_made = []

    def ask(own: Path, results: list[PreparedMedia]) -> None:
        def make() -> PreparedMedia:
            num_made.append(own)
            time.sleep(0.05)
            return made(own)

        results.append(shared.get("a.mp4", own, make))

    results: list[PreparedMedia] = []
    threads = [
        threading.Thread(target=ask, args=(tmp_path / f"{number}.f32", results))
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(num_made) == 1
    assert len({result.ref.path for result in results}) == 4
    for result in results:
        assert (result.frames, result.decoder, result.ref.key) == ((0, 7), "decord", "key")
        assert Path(result.ref.path).read_bytes() == b"pixels"
        Path(result.ref.path).unlink()  # and the others keep theirs


def test_a_failure_is_not_kept(tmp_path: Path) -> None:
    shared = SharedMedia(tmp_path / "shared", 1 << 20)

    def fail() -> PreparedMedia:
        raise RowError("no", reason=Reason.MEDIA_UNREADABLE)

    own = tmp_path / "own.f32"
    for _ in range(2):
        with pytest.raises(RowError):
            shared.get("a.mp4", own, fail)
    assert shared.get("a.mp4", own, lambda: made(own)).frames == (0, 7)


@pytest.mark.parametrize(("max_bytes", "num_kept"), [(0, 0), (10, 1), (25, 2)])
def test_the_oldest_go_when_there_are_too_many(
    tmp_path: Path, max_bytes: int, num_kept: int
) -> None:
    shared = SharedMedia(tmp_path / "shared", max_bytes)
    for name in ("a", "b", "c"):
        own = tmp_path / f"{name}.f32"
        shared.get(name, own, lambda own=own: made(own, bytes(10)))  # type: ignore[misc]
        time.sleep(0.01)
    assert len(list((tmp_path / "shared").glob("*.f32"))) == num_kept
    again = tmp_path / "again.f32"
    assert shared.get("c", again, lambda: made(again, b"new")).ref.path == str(again)
    assert again.read_bytes() == (bytes(10) if num_kept else b"new")
