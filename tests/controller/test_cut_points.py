"""A controller is killed at each of its writes, or works beside another one: the run is the same.

The kills are real: a forked process sends itself SIGKILL just before or just after its n-th write.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from controller.reconciler import Reconciler
from controller.retry.plan import begin, next_retry
from controller.start import start_run
from neva import queue
from neva.job_file import load_job
from neva.lease import Leases
from neva.ledger import Ledger, Manifest, ShardRow, layout
from neva.spec import VideoNevaJob
from neva.store import Writer, open_store
from neva.store.file import FileStore
from neva.store.probe import PROBE_PREFIX
from tests.controller.work import Work

NUM_SENDS = 6
Step = Callable[[], object]


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    # The report is a process of its own, and not what is tested here.
    monkeypatch.setattr("controller.finish._write_report", lambda uri: None)
    return Work(tmp_path)


def answer(row: ShardRow) -> str | None:
    return None if row.record["question_id"] == 7 else f"to {row.line}"


def in_a_fork(step: Step) -> int:
    """Run `step` in a process of its own; 0, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            step()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def dying_at(write: int, after: bool, step: Step) -> Step:
    """`step`, killed just before or after a write."""

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def killed() -> None:
        numbers = iter(range(1, 1 << 30))
        real, real_open = FileStore._write, FileStore.open_write

        @contextmanager
        def counted(key: str) -> Iterator[Step]:
            # A probe's writes are not the run's.
            number = 0 if key.startswith(PROBE_PREFIX) else next(numbers)
            try:
                yield die if number == write and not after else lambda: None
            finally:
                if number == write:
                    die()

        def count(self: FileStore, key: str, *arguments: Any, **options: Any) -> None:
            with counted(key) as before:
                before()
                real(self, key, *arguments, **options)

        @contextmanager
        def count_open(self: FileStore, key: str) -> Iterator[Writer]:
            with counted(key) as before, real_open(self, key) as file:
                yield file
                before()

        FileStore._write = count  # type: ignore[method-assign]
        FileStore.open_write = count_open  # type: ignore[method-assign]
        step()

    return killed


def tree(folder: Path) -> dict[str, bytes]:
    """All files but a probe's leftovers and half-written ones; times left out of the summary."""
    found = {}
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder).as_posix()
        if path.is_file() and not key.startswith(PROBE_PREFIX) and ".neva-tmp-" not in key:
            found[key] = path.read_bytes()
    if layout.SUMMARY in found:
        found[layout.SUMMARY] = orjson.dumps({**orjson.loads(found[layout.SUMMARY]), "stages_s": 0})
    return found


def try_every_cut(folder: Path, step: Step) -> int:
    """Kill `step` at each of its writes, run it again, compare; returns the number of kills."""
    before = folder.with_name("before")
    if folder.exists():
        shutil.copytree(folder, before)

    def reset() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        if before.exists():
            shutil.copytree(before, folder)

    assert in_a_fork(step) == 0
    whole = tree(folder)
    for number in range(1, 1000):
        for after in (False, True):
            reset()
            code = in_a_fork(dying_at(number, after, step))
            if code == 0:
                return 2 * (number - 1)
            assert code == -signal.SIGKILL
            assert in_a_fork(step) == 0
            assert tree(folder) == whole, f"killed at write {number}"
    raise AssertionError("it writes without end")


def start(job: VideoNevaJob) -> Manifest:
    manifest = start_run(job, Ledger(open_store(job.spec.output.uri)), lambda *_: None)
    assert isinstance(manifest, Manifest)
    return manifest


def test_killed_at_any_write_of_the_split_the_next_start_makes_the_same_run(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    kills = try_every_cut(work.folder / "out", lambda: start(job))
    assert kills >= 2 * 3, "shards, refused rows, manifest"


def test_killed_at_any_write_of_the_merge_the_next_finish_makes_the_same_files(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    manifest = start(job)
    ledger = Ledger(open_store(work.out))
    work.answer(ledger, manifest, answer)
    kills = try_every_cut(work.folder / "out", lambda: work.finish(job, ledger, manifest))
    assert kills >= 2 * 4, "outputs, errors, summary, _SUCCESS"


def test_killed_at_any_write_of_a_retry_the_next_one_makes_the_same_files(work: Work) -> None:
    work.run(load_job(work.folder / "job.yaml"), answer)

    job = begin(work.out, next_retry(work.out))
    own = Path(job.spec.output.uri.removeprefix("file://"))
    assert try_every_cut(own, lambda: start(job)) >= 2 * 2, "refused rows, shards, manifest"
    shutil.rmtree(own.with_name("before"), ignore_errors=True)
    manifest = start(job)
    ledger = Ledger(open_store(job.spec.output.uri))
    work.answer(ledger, manifest, lambda row: "now")
    assert try_every_cut(own, lambda: work.finish(job, ledger, manifest)) >= 2 * 5


def test_several_controllers_at_once_make_one_run_and_one_set_of_files(work: Work) -> None:
    job = load_job(work.folder / "job.yaml")
    assert together(lambda: start(job)) == [0, 0, 0]
    ledger = Ledger(open_store(work.out))
    manifest = ledger.read_manifest()
    assert manifest is not None
    work.answer(ledger, manifest, answer)
    assert together(lambda: work.finish(job, ledger, manifest)) == [0, 0, 0]
    at_once = tree(work.folder / "out")
    work.finish(job, ledger, manifest)
    assert tree(work.folder / "out") == at_once


def together(step: Step) -> list[int]:
    """Three processes at once."""
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                step()
                os._exit(0)
            finally:
                os._exit(1)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


@pytest.mark.parametrize("num_sent", random.Random(7).sample(range(NUM_SENDS), 3))
def test_killed_while_it_enqueues_the_next_controller_sends_what_is_missing(
    work: Work, broker_url: str, redis_client: redis.Redis, num_sent: int
) -> None:
    job = load_job(work.folder / "job.yaml")
    manifest = start(job)
    assert len(manifest.shards) == NUM_SENDS

    def step() -> None:
        client = queue.connect(broker_url)
        with queue.make_app(broker_url, manifest.run_id) as app:
            leases = Leases(client, manifest.run_id, 6)
            ledger = Ledger(open_store(work.out))
            Reconciler(manifest, ledger, client, app, leases, grace_s=6).step()
        client.close()

    def killed() -> None:
        numbers = iter(range(1 << 30))
        real = queue.send

        def send(*arguments: Any, **options: Any) -> None:
            if next(numbers) == num_sent:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments, **options)

        queue.send = send  # type: ignore[assignment]
        step()

    assert in_a_fork(killed) == -signal.SIGKILL
    assert len(queue.waiting_shards(redis_client, manifest.run_id)) == num_sent
    assert in_a_fork(step) == 0
    # A message too many costs a look into the ledger, one too few a shard.
    assert queue.waiting_shards(redis_client, manifest.run_id) == set(range(NUM_SENDS))
