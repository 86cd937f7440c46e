"""The engine as the supervisor and the Celery children meet it: real processes, a real socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import zmq
from safetensors.torch import load_file, save_file

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from tests.worker.engine.models import TinyLlava, make_request, reference_answer, write_media
from worker.engine.client import EngineClient, EngineLost
from worker.engine.launch import EXIT_CONFIG, DeadRank, EngineConfig, EngineProcesses
from worker.engine.protocol import (
    FailedReply,
    GenerateResult,
    MediaRef,
    Outcome,
    RequestFailed,
    SamplingParams,
    decode_engine_reply,
)
from worker.engine.watchdog import EngineWatchdog

PATIENCE_S = 120
LONG = SamplingParams(greedy=True, max_new_tokens=200, min_new_tokens=200)


def config_for(model_dir: Path, directory: Path, num_ranks: int = 2) -> EngineConfig:
    return EngineConfig(
        model_dir=model_dir,
        tensor_parallel_size=num_ranks,
        precision="fp32",
        socket_path=directory / "engine.sock",
        scratch_dir=directory / "scratch",
        max_batch_rows=4,
        device="cpu",
        log_path=directory / "engine.log",
    )


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def video(directory: Path) -> MediaRef:
    return write_media(directory / "video", num_frames=3, seed=1)


@pytest.fixture(scope="module")
def engine(model: TinyLlava, directory: Path) -> Iterator[EngineProcesses]:
    engine = EngineProcesses.start(config_for(model.directory, directory))
    try:
        engine.wait_ready(PATIENCE_S)
        yield engine
    finally:
        engine.terminate()


@pytest.fixture
def client(engine: EngineProcesses) -> Iterator[EngineClient]:
    client = EngineClient(engine.config.socket_path)
    yield client
    client.close()


def collect(client: EngineClient, count: int) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    deadline_s = time.monotonic() + PATIENCE_S
    while len(outcomes) < count:
        assert time.monotonic() < deadline_s
        outcomes |= {outcome.request_id: outcome for outcome in client.poll(1.0)}
    return outcomes


def wait_until(condition: object, what: str) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


def test_two_clients_get_their_own_answers(
    engine: EngineProcesses, client: EngineClient, model: TinyLlava, video: MediaRef
) -> None:
    other = EngineClient(engine.config.socket_path)
    try:
        requests = [
            make_request(f"row {i}", 5 + i % 2, media=video if i % 3 else None, seed=i)
            for i in range(6)
        ]
        # The same ids from the other client, other prompts: they must not get mixed up.
        others = [replace(request, after_ids=request.after_ids[::-1]) for request in requests]
        for mine, theirs in zip(requests, others, strict=True):
            client.submit(mine)
            client.submit(mine)  # twice is once
            other.submit(theirs)
        for asker, asked in ((client, requests), (other, others)):
            outcomes = collect(asker, len(asked))
            for request in asked:
                _, tokens = reference_answer(model, request)
                outcome = outcomes[request.request_id]
                assert isinstance(outcome, GenerateResult)
                assert outcome.token_ids == tokens
            assert asker.num_pending == 0
        status = client.status(5)
        assert status.generation == engine.generation
        assert (status.num_active, status.num_waiting) == (0, 0)
        assert (status.max_batch_rows, status.context_tokens) == (4, 256)
        assert (status.tensor_parallel_size, status.precision, status.device) == (2, "fp32", "cpu")
        assert status.num_vision_passes == 1
    finally:
        other.close()
    assert engine.poll() is None


def test_bad_requests_and_bad_messages_are_answered_and_change_nothing(
    engine: EngineProcesses, client: EngineClient, tmp_path: Path
) -> None:
    too_long = make_request("too long", 60, sampling=replace(LONG, max_new_tokens=197))
    missing = MediaRef("missing", str(tmp_path / "missing"), (3, 3, 32, 32))
    client.submit(too_long)
    client.submit(make_request("no pixels", 5, media=missing))
    client.submit(make_request("good", 5))
    outcomes = collect(client, 3)
    assert isinstance(outcomes["good"], GenerateResult)
    failures = {name: o for name, o in outcomes.items() if isinstance(o, RequestFailed)}
    assert failures["too long"].reason == Reason.CONTEXT_OVERFLOW
    assert failures["no pixels"].reason == Reason.MEDIA_UNREADABLE
    assert failures["no pixels"].retryable

    with zmq.Context() as context, context.socket(zmq.DEALER) as raw:
        raw.setsockopt(zmq.LINGER, 0)
        raw.connect(f"ipc://{engine.config.socket_path}")
        malformed = (b"", b"\xff", b"{}", b'{"type":"generate","request":{"request_id":"x"}}')
        for data in malformed:
            raw.send(data)
        raw.send_multipart([b"several", b"frames"])
        for expected_id in ("", "", "", "x", ""):
            assert raw.poll(5000)
            reply = decode_engine_reply(raw.recv())
            assert isinstance(reply, FailedReply)
            assert reply.generation == engine.generation
            assert reply.failure.request_id == expected_id
            assert "malformed" in reply.failure.message
    assert client.status(5).generation == engine.generation


def test_clients_that_vanish_or_say_goodbye_disturb_nobody(
    engine: EngineProcesses, client: EngineClient
) -> None:
    polite = EngineClient(engine.config.socket_path)
    polite.submit(make_request("polite", 5, sampling=LONG))
    wait_until(lambda: client.status(5).num_active == 1, "the row was not started")
    for number in range(5):
        polite.submit(make_request(f"polite {number}", 6, sampling=LONG))
    polite.close()
    code = (
        "import os; from pathlib import Path;"
        "from worker.engine.client import EngineClient;"
        "from tests.worker.engine.request_examples import text_request;"
        f"client = EngineClient(Path({str(engine.config.socket_path)!r}));"
        "client.submit(text_request('abandoned')); client.status(5); os._exit(1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1
    client.submit(make_request("mine", 7))
    assert isinstance(collect(client, 1)["mine"], GenerateResult)
    wait_until(
        lambda: (client.status(5).num_active, client.status(5).num_waiting) == (0, 0),
        "the rows of clients that left are still there",
    )
    assert engine.poll() is None


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_idle_engine_burns_no_cpu(engine: EngineProcesses, client: EngineClient) -> None:
    assert client.status(5).num_active == 0
    before = [cpu_seconds(pid) for pid in engine.pids]
    time.sleep(1.5)  # not waiting for anything: the time is what is measured
    used = [cpu_seconds(pid) - b for pid, b in zip(engine.pids, before, strict=True)]
    assert max(used) < 0.5, f"CPU seconds of the ranks in 1.5 idle seconds: {used}"


@pytest.mark.parametrize("victim", [1, 0])
def test_a_killed_rank_takes_the_engine_down_and_a_new_one_answers(
    model: TinyLlava, tmp_path: Path, victim: int
) -> None:
    config = config_for(model.directory, tmp_path)
    engine = EngineProcesses.start(config)
    client = EngineClient(config.socket_path)
    try:
        engine.wait_ready(PATIENCE_S)
        if victim == 1:  # at work; the other time, idle
            client.submit(make_request("lost", 5, sampling=LONG))
            wait_until(lambda: client.status(5).num_active == 1, "the row was not started")
        os.kill(engine.pids[victim], signal.SIGKILL)
        if victim == 1:
            with pytest.raises(EngineLost):
                collect(client, 1)
        # The other rank ends by itself.
        wait_until(lambda: not any(map(is_running, engine.pids)), "a rank outlived the other")
        dead = engine.poll()
        assert dead == DeadRank(victim, -signal.SIGKILL)
        assert dead is not None
        assert engine.last_words(dead).message == f"engine rank {victim} was killed by SIGKILL"
        log = (tmp_path / "engine.log").read_text()
        assert f"engine rank {1 - victim}: EngineCrashed: another rank is gone" in log
        assert "Traceback" not in log
        if victim == 0:
            return
        engine.terminate()
        engine = EngineProcesses.start(config)
        engine.wait_ready(PATIENCE_S)
        client.submit(make_request("lost", 5))
        assert isinstance(collect(client, 1)["lost"], GenerateResult)
    finally:
        client.close()
        engine.terminate()


def test_a_rank_killed_in_the_middle_of_prompts_takes_the_engine_down(
    model: TinyLlava, tmp_path: Path
) -> None:
    config = replace(
        config_for(model.directory, tmp_path), max_prefill_tokens=8, prefill_piece_tokens=8
    )
    engine = EngineProcesses.start(config)
    client = EngineClient(config.socket_path)
    try:
        engine.wait_ready(PATIENCE_S)
        for number in range(8):
            client.submit(make_request(f"row {number}", 215, seed=number))

        def is_in_the_middle() -> bool:
            status = client.status(5)
            return status.num_prefilled_tokens > 8 and status.num_waiting >= 4

        wait_until(is_in_the_middle, "no prompt was seen under way")
        os.kill(engine.pids[1], signal.SIGKILL)
        with pytest.raises(EngineLost):
            collect(client, 8)
        wait_until(lambda: not any(map(is_running, engine.pids)), "a rank outlived the other")
        assert engine.poll() == DeadRank(1, -signal.SIGKILL)
    finally:
        client.close()
        engine.terminate()


@pytest.mark.parametrize("victim", [1, 0])
def test_a_rank_killed_while_it_loads_is_named_at_once(
    model: TinyLlava, tmp_path: Path, victim: int
) -> None:
    engine = EngineProcesses.start(config_for(model.directory, tmp_path))
    try:
        # The ranks have begun to meet, or to load.
        wait_until((engine.config.scratch_dir / "rendezvous").exists, "no rank came up")
        os.kill(engine.pids[victim], signal.SIGKILL)
        with pytest.raises(NevaError, match=f"engine rank {victim} was killed by SIGKILL") as lost:
            engine.wait_ready(PATIENCE_S)
        assert not isinstance(lost.value, ConfigError)
        assert lost.value.retryable
    finally:
        engine.terminate()
    assert not any(map(is_running, engine.pids))


@pytest.mark.parametrize(("victim", "at_work"), [(1, True), (1, False), (0, True)])
def test_a_stopped_rank_is_noticed_and_the_engine_ended(
    model: TinyLlava, tmp_path: Path, victim: int, at_work: bool
) -> None:
    config = config_for(model.directory, tmp_path)
    engine = EngineProcesses.start(config)
    client = EngineClient(config.socket_path)
    try:
        engine.wait_ready(PATIENCE_S)
        watchdog = EngineWatchdog.connect(config.socket_path, engine.generation, limit_s=2.0)
        # Healthy: idle for a while, its count moves.
        first = client.status(5).progress
        wait_until(lambda: client.status(5).progress > first + 1, "an idle engine does not turn")
        assert watchdog.check() is None
        if at_work:
            client.submit(make_request("lost", 5, sampling=LONG))
            wait_until(lambda: client.status(5).num_active == 1, "the row was not started")
        os.kill(engine.pids[victim], signal.SIGSTOP)
        problems: list[str | None] = []
        wait_until(lambda: problems.append(watchdog.check()) or problems[-1], "no hang noticed")
        assert "no progress for" in str(problems[-1])
        assert engine.poll() is None  # nothing has died: only the watchdog could tell
        watchdog.close()
        engine.kill()
        assert not any(map(is_running, engine.pids))
        if at_work:
            with pytest.raises(EngineLost):
                collect(client, 1)
    finally:
        client.close()
        engine.kill()


def is_running(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_checkpoint_that_is_refused_is_explained_in_one_line(
    model: TinyLlava, tmp_path: Path
) -> None:
    broken = tmp_path / "model"
    shutil.copytree(model.directory, broken)
    tensors = load_file(broken / "model.safetensors")
    del tensors["model.language_model.norm.weight"]
    save_file(tensors, broken / "model.safetensors")
    engine = EngineProcesses.start(config_for(broken, tmp_path, num_ranks=1))
    try:
        with pytest.raises(ConfigError, match=r"missing language_model\.norm\.weight") as raised:
            engine.wait_ready(PATIENCE_S)
        assert raised.value.reason == Reason.INVALID_CHECKPOINT
        assert engine.poll() == DeadRank(0, EXIT_CONFIG)
        assert len((tmp_path / "engine.log").read_text().splitlines()) == 1
    finally:
        engine.terminate()


def test_the_ranks_die_with_whoever_started_them(model: TinyLlava, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from tests.worker.engine.test_engine_processes import config_for;"
        "from worker.engine.launch import EngineProcesses;"
        "engine = EngineProcesses.start(config_for(*map(Path, sys.argv[1:])));"
        "print(*engine.pids, flush=True);"
        "engine.wait_ready(100); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(model.directory), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pids = [int(pid) for pid in starter.stdout.readline().split()]
        assert starter.stdout.readline() == "ready\n"
        assert all(map(is_running, pids))
        starter.kill()
        wait_until(lambda: not any(map(is_running, pids)), "the ranks outlived their parent")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensor_parallel_size": 0}, "tensor parallel size 0"),
        ({"max_batch_rows": 0}, "max_batch_rows 0"),
        ({"socket_path": Path("/tmp/" + "x" * 120)}, "longer than 103 bytes"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_before_anything_starts(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    config = replace(config_for(tmp_path, tmp_path), **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words):
        EngineProcesses.start(config)
