"""`neva ui` as a process: it says where it is, serves, and stops when it is told to."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.exits import EXIT_ERROR, EXIT_INVALID
from controller.ui.cli import ui_app
from neva.store import open_store
from tests.controller.ui.moving import MovingRun


def test_it_says_its_address_serves_events_and_stops(tmp_path: Path) -> None:
    list(itertools.islice(MovingRun(open_store(str(tmp_path)), 60).steps(), 2))
    command = [sys.executable, "-m", "controller", "ui", str(tmp_path), "--port", "0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}events", timeout=60) as events:
            assert events.readline() == b"event: sections\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) in (0, -signal.SIGTERM), "also while a page is open"
        assert process.stderr.read() == ""


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(ui_app, [str(tmp_path), "--port", port])
    assert done.exit_code == EXIT_ERROR
    assert f"can't listen on 127.0.0.1, port {port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["OUT", "-A"], "namespaces are a cluster's"),
        (["ftp://x/"], "not supported"),
        (["vnj/kitchen"], "neva ui -n NAMESPACE"),
        ([], "name run folders or output URIs"),
    ],
)
def test_wrong_arguments_are_said(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # and no ~/.kube/config
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(ui_app, arguments)
    assert done.exit_code == EXIT_INVALID
    assert words in done.stderr
