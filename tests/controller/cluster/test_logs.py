"""`neva logs` of a job: pods of an emulated cluster whose logs are files."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controller.cluster.logs import Container, PodLogs, Wanted
from controller.operator.names import LABEL_JOB
from neva.targets import JobOnCluster
from tests.controller.cluster.conftest import NAMESPACE, User
from tests.kube.waiting import eventually

JOB = JobOnCluster("kitchen")


class Pods:
    """Pods without a kubelet, and what they print."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._folder = user.emulator.log_folder or Path()

    def make(self, name: str, *containers: str, init: tuple[str, ...] = ()) -> None:
        def of(names: tuple[str, ...]) -> list[dict[str, Any]]:
            return [{"name": n, "image": "none", "command": ["true"]} for n in names]

        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {LABEL_JOB: "kitchen"}},
            "spec": {"containers": of(containers), "initContainers": of(init)},
        }
        self._call("POST", "", body, None)

    def write(self, name: str, container: str, *lines: str) -> None:
        path = self._folder / f"{NAMESPACE}_{name}_{container}.log"
        with path.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)

    def end(self, name: str) -> None:
        patch = {"status": {"phase": "Succeeded"}}
        self._call("PATCH", f"/{name}/status", patch, "application/merge-patch+json")

    def delete(self, name: str) -> None:
        self._call("DELETE", f"/{name}", {"gracePeriodSeconds": 0}, None)

    def _call(self, method: str, rest: str, body: Any, content_type: str | None) -> None:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods{rest}"
        self._user.cluster.transport(method, path, body, content_type)


@pytest.fixture
def pods(user: User) -> Pods:
    user.make("kitchen")
    return Pods(user)


def test_all_containers_of_all_pods_are_printed_with_the_pods_names(user: User, pods: Pods) -> None:
    pods.make("kitchen-prepare-1", "prepare")
    pods.make("kitchen-workers-1-a", "worker", "proxy", init=("setup",))
    pods.write("kitchen-prepare-1", "prepare", "72 rows")
    pods.write("kitchen-workers-1-a", "worker", "one", "two", "three")
    pods.write("kitchen-workers-1-a", "setup", "ready")
    printed = user.neva("logs", "vnj/kitchen", "--tail", "2", "--since", "15m").output
    assert printed.splitlines() == [
        "[kitchen-prepare-1/prepare] 72 rows",
        "[kitchen-workers-1-a/setup] ready",
        "[kitchen-workers-1-a/worker] two",
        "[kitchen-workers-1-a/worker] three",
    ]
    told = user.neva("logs", "vnj/kitchen", "--tail", "1", "-o", "json").stdout.splitlines()
    assert json.loads(told[0]) == {
        "pod": "kitchen-prepare-1",
        "container": "prepare",
        "line": "72 rows",
    }
    user.neva("logs", "vnj/kitchen", "--tail", "2", "--since", "15m")
    asked = user.emulator.requests.all(lambda r: r.subresource == "log")[-1].query
    assert asked == {"container": "proxy", "sinceSeconds": "900", "tailLines": "2"}
    for name in ("kitchen-prepare-1", "kitchen-workers-1-a"):
        pods.delete(name)
    assert "has no pods" in user.neva("logs", "vnj/kitchen", code=2).output


def test_following_shows_new_lines_and_new_pods_until_the_job_ends(user: User, pods: Pods) -> None:
    said: list[str] = []
    pods.make("w-1", "worker")
    pods.write("w-1", "worker", "one")
    logs = PodLogs(user.cluster, JOB, Wanted(), lambda c, line: said.append(f"{c.pod} {line}"))
    thread = _in_thread(lambda: logs.print_all(follow=True))
    eventually(lambda: said == ["w-1 one"], "the first line", 60)
    pods.write("w-1", "worker", "two")
    eventually(lambda: "w-1 two" in said, "the second line", 60)
    pods.make("w-2", "worker")  # no log yet
    pods.make("w-3", "worker")  # and never one
    time.sleep(0.1)
    pods.write("w-2", "worker", "three")
    eventually(lambda: "w-2 three" in said, "the new pod's line", 60)
    for name in ("w-1", "w-2"):
        pods.end(name)
    assert thread.is_alive(), "the job goes on"
    user.tell("kitchen", phase="Succeeded")
    thread.join(60)
    assert not thread.is_alive()
    assert sorted(said) == ["w-1 one", "w-1 two", "w-2 three"]
    for name in ("w-1", "w-2", "w-3"):
        pods.delete(name)


def test_following_ends_when_nobody_reads_any_more(user: User, pods: Pods) -> None:
    """`neva logs -f vnj/kitchen | head -1`, of a job that goes on."""
    said: list[str] = []

    def say(container: Container, line: str) -> None:
        if said:
            raise BrokenPipeError
        said.append(f"{container.pod} {line}")

    pods.make("w-1", "worker")
    pods.make("w-2", "worker")  # says nothing, and goes on
    pods.write("w-1", "worker", "one", "two")
    raised: list[type[BaseException]] = []

    def follow() -> None:
        try:
            PodLogs(user.cluster, JOB, Wanted(), say).print_all(follow=True)
        except BrokenPipeError as error:
            raised.append(type(error))

    thread = _in_thread(follow)
    thread.join(60)
    assert not thread.is_alive(), "the pods run still"
    assert (said, raised) == (["w-1 one"], [BrokenPipeError])
    for name in ("w-1", "w-2"):
        pods.end(name)
        pods.delete(name)


def _in_thread(do: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return thread
