"""One run with everything that takes part in it, kept alive as a cluster keeps it alive.

Whoever dies and has somebody to start it again in real life (a pod, a server, the user who types
the same command again) is started again by `keep`. Nothing else is repaired.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import redis

from controller.local import broker as local_broker
from tests.chaos import variables
from tests.chaos.roles import Role, members
from tests.support.jobs import JobFolder
from tests.support.processes import Process, descendants

_PAUSE_S = 0.2  # before somebody is started again


class World(Protocol):
    """A run as the driver sees it."""

    job: JobFolder
    num_restarts: int

    def keep(self) -> bool:
        """Start again who died; True when the run has ended."""
        ...

    def members(self, role: Role) -> list[Process]: ...

    def redis_url(self) -> str | None:
        """Where the broker is, if it is there."""
        ...

    def restart_finished(self) -> int:
        """Do the whole thing once more after its end; its exit code."""
        ...

    def close(self) -> None: ...


@dataclass(eq=False)
class LocalWorld:
    """`neva run`, typed again whenever it ends before the job has."""

    job: JobFolder
    num_restarts: int = 0
    codes: list[int] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def keep(self) -> bool:
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return False
            self.codes.append(code)
            if code == 0:
                return True
            self.num_restarts += 1
            time.sleep(_PAUSE_S)
        with (self.job.folder / "run.log").open("a") as log:
            self._process = self.job.start(stdout=log)
        return False

    def members(self, role: Role) -> list[Process]:
        return [] if self._process is None else members(role, self._process.pid)

    def redis_url(self) -> str | None:
        sockets = list(self.job.folder.glob("t/neva-run-*/neva-broker-*/valkey.sock"))
        return f"unix://{sockets[-1]}" if sockets else None

    def restart_finished(self) -> int:
        return self.job.run()[0]

    def close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@dataclass(eq=False)
class ClusterWorld:
    """A controller, workers and a broker, each a process of its own and started again.

    Attributes:
        append_only: the broker keeps its data over its death; else it comes back empty.
        num_controllers: 2: both run the same job at once.
    """

    job: JobFolder
    num_workers: int
    append_only: bool
    worker_module: str = "tests.chaos.worker"
    num_controllers: int = 1
    num_restarts: int = 0
    codes: list[int] = field(default_factory=list)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _started: set[str] = field(default_factory=set)
    _ended: set[str] = field(default_factory=set)
    _not_before_s: dict[str, float] = field(default_factory=dict)

    def keep(self) -> bool:
        names = [f"controller-{n}" for n in range(self.num_controllers)]
        self._keep("broker", self._broker_command())
        for name in names:
            if name not in self._ended:
                code = self._keep(name, [sys.executable, "-m", "tests.chaos.controller"])
                if code == 0:
                    self._ended.add(name)
        if self._ended.issuperset(names):
            return True
        if self.job.output.head("manifest.json") is not None:
            for number in range(self.num_workers):
                self.keep_worker(number)
        return False

    def keep_worker(self, number: int) -> None:
        command = [sys.executable, "-m", self.worker_module, "--until-done"]
        self._keep(f"worker-{number}", command)

    def hold_back(self, number: int, seconds: float) -> None:
        """Start this worker again only after so long, as a new pod takes its time."""
        self._not_before_s[f"worker-{number}"] = time.monotonic() + seconds

    def worker(self, number: int) -> subprocess.Popen[bytes] | None:
        return self._processes.get(f"worker-{number}")

    def members(self, role: Role) -> list[Process]:
        return members(role, os.getpid(), self.job.folder)

    def redis_url(self) -> str | None:
        return f"unix://{self.job.folder}/b/valkey.sock"

    def restart_finished(self) -> int:
        self._ended.clear()
        while not self.keep_controllers_only():
            time.sleep(0.05)
        return 0

    def keep_controllers_only(self) -> bool:
        self._keep("broker", self._broker_command())
        code = self._keep("controller-0", [sys.executable, "-m", "tests.chaos.controller"])
        return code == 0

    def close(self) -> None:
        """In order, as a cluster does; whoever stays is killed."""
        for name, process in self._processes.items():
            if process.poll() is None and name != "broker":
                process.terminate()
        deadline_s = time.monotonic() + 30
        for name, process in self._processes.items():
            if name == "broker":
                continue
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if (broker := self._processes.get("broker")) is not None:
            broker.kill()
            broker.wait()

    def _keep(self, name: str, command: list[str]) -> int | None:
        """Start it, or start it again; the exit code of the one that has ended."""
        process = self._processes.get(name)
        code = process.poll() if process is not None else None
        if process is not None and code is None:
            return None
        if code is not None:
            self.codes.append(code)
            if name.startswith("controller") and code == 0:
                del self._processes[name]
                return 0
            self.num_restarts += 1
            self._not_before_s.setdefault(name, time.monotonic() + _PAUSE_S)
            del self._processes[name]
        if time.monotonic() < self._not_before_s.get(name, 0):
            return code
        self._not_before_s.pop(name, None)
        with (self.job.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=self._variables(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return code

    def _variables(self, name: str) -> dict[str, str]:
        folder = self.job.folder
        return {
            **self.job.variables,
            "NEVA_REDIS_URL": self.redis_url() or "",
            "NEVA_JOB": self.job.as_json(),
            "NEVA_SCRATCH_DIR": str(folder / "s" / name),
            "NEVA_TERMINATION_LOG": str(folder / f"{name}.words"),
        }

    def _broker_command(self) -> list[str]:
        folder = self.job.folder / "b"
        folder.mkdir(exist_ok=True)
        command = [str(local_broker._server()), "--port", "0", "--save", "", "--dir", str(folder)]
        command += ["--unixsocket", str(folder / "valkey.sock")]
        return [*command, "--appendonly", "yes" if self.append_only else "no"]


def left_behind(job: JobFolder) -> list[str]:
    """What is still there of a run that has ended: processes, scratch files, shared memory."""
    mark = f"{variables.MARK}={job.folder}\0".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes() + b"\0":
                    words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(f"process {folder.name}: {words}")
    scratch = [job.folder / name for name in ("t", "shm")] + [job.folder / "s"]
    for base in scratch:
        found += [str(path) for path in base.rglob("*") if path.is_file()]
    if job.bucket is None:
        found += [str(path) for path in job.folder.glob("out/**/.neva-tmp-*")]
    return found


def kill_marked(job: JobFolder) -> None:
    """End whatever a failed run left."""
    for line in left_behind(job):
        if line.startswith("process "):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)


def flush(world: World, command: str) -> bool:
    """Have the broker forget: FLUSHALL, FLUSHDB, or DEL of everything that waits in queues."""
    url = world.redis_url()
    if url is None:
        return False
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        if command == "DEL":
            names = [n for n in client.scan_iter("neva.*") if client.type(n) == b"list"]
            if names:
                client.delete(*names)
        else:
            client.execute_command(command)
    except redis.RedisError:
        return False
    finally:
        client.close()
    return True


def everybody(world: World) -> list[Process]:
    """All processes of the run."""
    return [p for p in descendants(os.getpid()) if _is_of(p, world.job.folder)]


def _is_of(process: Process, folder: Path) -> bool:
    try:
        environ = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return False
    return f"{variables.MARK}={folder}\0".encode() in environ + b"\0"
