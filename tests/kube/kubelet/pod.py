"""One pod on this machine: its containers as processes, its status as a kubelet reports it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.kube.kubelet.environment import (
    Lookup,
    command_line,
    container_environment,
    make_volumes,
    mounted,
    rewritten,
)
from tests.kube.kubelet.process import ContainerProcess

Obj = dict[str, Any]

MESSAGE_VARIABLE = "NEVA_TERMINATION_LOG"


class LocalPod:
    """The processes of one pod: init containers in turn, then its one container.

    Args:
        folder: for its volumes and messages; left behind for a look afterwards.
        log_folder: where its logs go, as NAMESPACE_POD_CONTAINER.log.
        base_environment: variables of every process, below the pod's own.

    Raises:
        ConfigMissing: a Secret or ConfigMap isn't there yet; nothing was started.
    """

    def __init__(
        self,
        pod: Obj,
        folder: Path,
        log_folder: Path,
        base_environment: dict[str, str],
        lookup: Lookup,
    ) -> None:
        spec = pod["spec"]
        if len(spec["containers"]) != 1:
            raise ValueError(f"{pod['metadata']['name']}: one container per pod is all we play")
        self.pod = pod
        self._folder = folder
        self._log_folder = log_folder
        self._environment = base_environment
        self._volumes = make_volumes(pod, folder, lookup)
        self._containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
        self._variables = {
            container["name"]: container_environment(container, pod, lookup)
            for container in self._containers
        }
        self._states: dict[str, Obj] = {}
        self._position = 0
        self._stopping = False
        self._started_at = _now()
        self._process: ContainerProcess | None = self._start(self._containers[0])

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"]["uid"])

    @property
    def has_ended(self) -> bool:
        return self._process is None

    def advance(self) -> bool:
        """Look at the process; returns whether the status is another one now."""
        if self._process is None:
            return False
        code = self._process.exit_code
        if code is None:
            return False
        container = self._containers[self._position]
        falls_back = container.get("terminationMessagePolicy") == "FallbackToLogsOnError"
        state = {
            "exitCode": code,
            "reason": "Completed" if code == 0 else "Error",
            "message": self._process.message(falls_back),
            "startedAt": self._started_at,
            "finishedAt": _now(),
        }
        self._states[container["name"]] = {
            "terminated": {k: v for k, v in state.items() if v != ""}
        }
        self._process = None
        is_last = self._position == len(self._containers) - 1
        if code == 0 and not is_last and not self._stopping:
            self._position += 1
            self._process = self._start(self._containers[self._position])
        return True

    def stop(self, grace_s: float) -> None:
        self._stopping = True
        if self._process is not None:
            self._process.stop(grace_s)

    def kill(self) -> None:
        """All processes are gone when this returns."""
        self._stopping = True
        if self._process is not None:
            self._process.kill()

    @property
    def pid(self) -> int | None:
        """The running container's first process."""
        return self._process.pid if self._process is not None else None

    def status(self) -> Obj:
        """The pod's status in full."""
        init = {c["name"] for c in self.pod["spec"].get("initContainers") or ()}
        main = self.pod["spec"]["containers"][0]["name"]
        phase = "Running" if main in self._states or not init else "Pending"
        if self._process is None:
            last = self._states[self._containers[self._position]["name"]]["terminated"]
            succeeded = last["exitCode"] == 0 and main in self._states
            phase = "Succeeded" if succeeded else "Failed"
        statuses = [self._container_status(c) for c in self._containers]
        running = "running" in self._states.get(main, {})
        conditions = [
            _condition("PodScheduled", True),
            _condition("Initialized", main in self._states),
            _condition("ContainersReady", running),
            _condition("Ready", running),
        ]
        return {
            "phase": phase,
            "startTime": self._started_at,
            "podIP": "127.0.0.1",
            "hostIP": "127.0.0.1",
            "conditions": conditions,
            "initContainerStatuses": [s for s in statuses if s["name"] in init],
            "containerStatuses": [s for s in statuses if s["name"] not in init],
        }

    def _container_status(self, container: Obj) -> Obj:
        state = self._states.get(container["name"], {"waiting": {"reason": "PodInitializing"}})
        return container_status(container, state)

    def _start(self, container: Obj) -> ContainerProcess:
        name, metadata = container["name"], self.pod["metadata"]
        mounts = mounted(container, self._volumes)
        message = self._folder / f"{name}.message"
        variables = self._variables[name]
        command = [rewritten(word, mounts) for word in command_line(container, variables)]
        if not command:
            raise ValueError(f"{metadata['name']}: no command; images' own can't be known here")
        environment = {**self._environment, "HOSTNAME": metadata["name"]}
        if "/tmp" in mounts:
            environment["TMPDIR"] = str(mounts["/tmp"])
        environment |= {key: rewritten(value, mounts) for key, value in variables.items()}
        environment[MESSAGE_VARIABLE] = str(message)
        for path in mounts.values():
            path.mkdir(parents=True, exist_ok=True)
        log = self._log_folder / f"{metadata['namespace']}_{metadata['name']}_{name}.log"
        process = ContainerProcess(_found(command, environment), environment, log, message)
        self._states[name] = {"running": {"startedAt": _now()}}
        return process


def container_status(container: Obj, state: Obj) -> Obj:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": "running" in state,
        "started": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _found(command: list[str], environment: dict[str, str]) -> list[str]:
    """The program by the container's PATH, not by ours."""
    if "/" in command[0]:
        return command
    for folder in environment.get("PATH", "").split(os.pathsep):
        if os.access(Path(folder) / command[0], os.X_OK):
            return [str(Path(folder) / command[0]), *command[1:]]
    return command


def _condition(kind: str, holds: bool) -> Obj:
    return {"type": kind, "status": str(holds), "lastTransitionTime": _now()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
