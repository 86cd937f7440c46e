"""`neva ui` as a process: it says where it is, serves, and stops when it is told to."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NoReturn

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from controller.exits import EXIT_ERROR, EXIT_INVALID
from controller.ui.app import make_app
from controller.ui.cli import allowed_hosts, listening, ui_app
from controller.ui.local import LocalRuns
from neva.store import open_store
from tests.controller.ui.moving import MovingRun


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_it_says_its_address_serves_events_and_stops(
    signum: signal.Signals, tmp_path: Path
) -> None:
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
            process.send_signal(signum)
            assert process.wait(60) == 0, "also while a page is open"
        assert process.stderr.read() == ""


def test_it_stops_in_order_also_before_it_serves(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def told_to_stop(host: str, port: int) -> NoReturn:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it goes on")

    monkeypatch.setattr("controller.ui.cli.listening", told_to_stop)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # pytest outlives a failure
    try:
        done = CliRunner().invoke(ui_app, [str(tmp_path), "--port", "0"])
        assert (done.exit_code, done.output) == (0, "")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_port_that_is_taken_is_said_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(ui_app, [str(tmp_path), "--port", port])
    assert done.exit_code == EXIT_ERROR
    assert f"can't listen on 127.0.0.1, port {port}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_all_addresses_are_listened_on_also_where_ipv6_is_switched_off(
    has_ipv6: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_ipv6 = has_ipv6 and socket.has_dualstack_ipv6()
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: has_ipv6)
    with listening("::", 0) as listener:
        for address in ("127.0.0.1", "::1") if has_ipv6 else ("127.0.0.1",):
            with socket.create_connection((address, listener.getsockname()[1]), timeout=10):
                pass


@pytest.mark.parametrize(
    ("host", "named", "asked", "allowed"),
    [
        ("::1", [], "[::1]:8321", True),
        ("0:0:0:0:0:0:0:1", [], "[::1]:8321", True),
        ("::1", [], "localhost:8321", True),
        ("127.0.0.1", [], "127.0.0.1:8321", True),
        ("127.0.0.1", [], "evil.example:8321", False),
        ("::", ["::1", "neva.example.com"], "[::1]:8321", True),
        ("::", ["::1", "neva.example.com"], "evil.example", False),
        ("::", [], "any.example", True),
    ],
)
def test_browsers_ask_by_the_names_that_are_allowed(
    host: str, named: list[str], asked: str, allowed: bool, tmp_path: Path
) -> None:
    app = make_app(LocalRuns([str(tmp_path)]), hosts=allowed_hosts(host, named))
    answer = TestClient(app).get("/healthz", headers={"host": asked})
    assert answer.status_code == (200 if allowed else 400)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["OUT", "-A"], "namespaces are a cluster's"),
        (["ftp://x/"], "not supported"),
        (["OUT", "--allow-host", "neva.*"], "*.example.com"),
        (["OUT", "--allow-host", "*neva"], "*.example.com"),
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
