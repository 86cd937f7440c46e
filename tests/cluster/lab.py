"""A namespace of a cluster with a release of the chart, and words for what went wrong in it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

Obj = dict[str, Any]

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts" / "neva-batch"
KIND_EXAMPLES = REPOSITORY / "conf" / "examples" / "kind"
KUBECTL = Path(sys.executable).with_name("kubectl")
RELEASE = "neva-batch"
CRDS = ("videonevajobs.neva-batch.dev", "dropfolders.neva-batch.dev")
CONTROLLER_IMAGE = os.environ.get("NEVA_CONTROLLER_IMAGE", "neva-batch-controller:0.1.0")
WORKER_IMAGE = os.environ.get("NEVA_WORKER_IMAGE", "neva-batch-worker:0.1.0")

_LOG_LINES = 60
_PAUSE_S = 1.0
_FINAL = ("Succeeded", "Failed")


def image_values(reference: str) -> Obj:
    """An image's reference as the chart's values have it: repository, tag, digest."""
    rest, _, digest = reference.partition("@")
    head, slash, last = rest.rpartition("/")
    name, _, tag = last.partition(":")
    if not tag and not digest:
        tag = "latest"  # as a node has it
    return {"repository": f"{head}{slash}{name}", "tag": tag, "digest": digest}


def release_values(namespace: str) -> Obj:
    """The values of conf/examples/kind, with the images to be tested, for one namespace alone."""
    values: Obj = yaml.safe_load((KIND_EXAMPLES / "values.yaml").read_text(encoding="utf-8"))
    values["image"] = {
        "controller": image_values(CONTROLLER_IMAGE),
        "worker": image_values(WORKER_IMAGE),
        "allowLatest": True,
    }
    values["valkey"]["image"] = {"registry": "", **image_values(CONTROLLER_IMAGE)}
    values["controller"] = {"namespaces": [namespace], "statusIntervalSeconds": 1}
    return values


def demo_manifests() -> str:
    """conf/examples/kind/demo.yaml with the worker image to be tested."""
    text = (KIND_EXAMPLES / "demo.yaml").read_text(encoding="utf-8")
    return re.sub(r"image: neva-batch-worker:\S+", f"image: {WORKER_IMAGE}", text)


def example_job(name: str, **spec: Any) -> Obj:
    """conf/examples/kind/job.yaml under another name; None takes a block of its spec out."""
    job: Obj = yaml.safe_load((KIND_EXAMPLES / "job.yaml").read_text(encoding="utf-8"))
    job["metadata"]["name"] = name
    job["spec"]["output"] = {"uri": f"s3://demo/runs/{name}/"}
    for key, value in spec.items():
        if value is None:
            job["spec"].pop(key, None)
        else:
            job["spec"][key] = value
    return job


def drop_folder() -> Obj:
    """A drop folder in the demo's bucket whose jobs are the example's, without a judge."""
    spec = example_job("template")["spec"]
    for key in ("output", "judge"):
        del spec[key]
    spec["input"] = {"mediaBasePath": "s3://demo/input/videos/", "mediaType": "video"}
    return {
        "apiVersion": "neva-batch.dev/v1alpha1",
        "kind": "DropFolder",
        "metadata": {"name": "inbox"},
        "spec": {
            "uri": "s3://demo/inbox/",
            "outputBase": "s3://demo/answers/",
            "pollSeconds": 2,
            "settleSeconds": 2,
            "template": {"spec": spec},
        },
    }


class Lab:
    """One namespace, through kubectl."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.folder = folder

    def run(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 120
    ) -> tuple[int, str]:
        """(exit code, everything printed)."""
        try:
            done = subprocess.run(
                [KUBECTL, "--namespace", self.namespace, *arguments],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                input=stdin,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, f"kubectl {' '.join(arguments)}: no answer in {timeout_s:g} s"
        return done.returncode, done.stdout + done.stderr

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout_s: float = 120) -> str:
        code, printed = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        if code != 0:
            self.fail(f"kubectl {' '.join(arguments)} ended with {code}:\n{printed}")
        return printed

    def make_namespace(self) -> None:
        """The namespace, with the strictest PodSecurity."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        metadata = {"name": self.namespace, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})

    def apply(self, *objects: Obj) -> str:
        return self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def get(self, kind: str, name: str) -> Obj | None:
        printed = self.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
        return dict(json.loads(printed)) if printed.strip() else None

    def items(self, kind: str, selector: str = "") -> list[Obj]:
        options = ["-l", selector] if selector else []
        return list(json.loads(self.kubectl("get", kind, "-o", "json", *options))["items"])

    def status(self, name: str) -> Obj:
        return (self.get("videonevajobs", name) or {}).get("status") or {}

    def condition(self, kind: str, name: str, condition: str) -> Obj:
        status = (self.get(kind, name) or {}).get("status") or {}
        found = [c for c in status.get("conditions") or [] if c["type"] == condition]
        return dict(found[0]) if found else {}

    # Waiting

    def wait(self, what: str, condition: Callable[[], Any], timeout_s: float) -> Any:
        """Wait until `condition`; fails with everything one would look at by hand."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            if time.monotonic() > deadline_s:
                self.fail(f"not within {timeout_s:g} s: {what}")
            time.sleep(_PAUSE_S)
        return found

    def wait_phase(self, name: str, *phases: str, timeout_s: float = 900) -> Obj:
        """Wait until a job is in one of the phases; one that ended otherwise fails at once."""

        def there() -> Obj | None:
            status = self.status(name)
            phase = status.get("phase")
            if phase in _FINAL and phase not in phases:
                self.fail(f"{name} is {phase}, not {' or '.join(phases)}")
            return status if phase in phases else None

        return dict(self.wait(f"{name} is {' or '.join(phases)}", there, timeout_s))

    # What went wrong

    def fail(self, words: str) -> None:
        raise AssertionError(f"{words}\n{self.diagnosis()}")

    def diagnosis(self) -> str:
        """Describe, events and logs of the whole namespace; never raises."""
        looks = [
            ("get", "all,vnj,dropfolders", "-o", "wide"),
            ("get", "vnj,dropfolders", "-o", "yaml"),
            ("describe", "vnj,dropfolders"),
            ("describe", "jobs,statefulsets,deployments"),
            ("describe", "pods"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("get", "nodes", "-o", "wide"),
        ]
        parts = []
        for look in looks:
            parts.append(f"--- kubectl {' '.join(look)}\n{self.run(*look)[1]}")
        code, names = self.run("get", "pods", "-o", "name")
        for pod in names.split() if code == 0 else []:
            options = (pod, "--all-containers", f"--tail={_LOG_LINES}", "--prefix")
            parts.append(f"--- kubectl logs {pod}\n{self.run('logs', *options)[1]}")
            before = self.run("logs", *options, "--previous")
            if before[0] == 0:
                parts.append(f"--- kubectl logs {pod} --previous\n{before[1]}")
        return "\n".join(parts)

    # The demo's S3 server from here

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[int]:
        """A local port that leads to `target`'s; kubectl is started again where it gives up."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local = int(free.getsockname()[1])
        stop = threading.Event()
        forwarding = threading.Thread(target=self._forward, args=(target, local, port, stop))
        forwarding.start()
        try:
            self.wait(f"a port of {target}", lambda: _answers(local), 60)
            yield local
        finally:
            stop.set()
            forwarding.join()

    def _forward(self, target: str, local: int, port: int, stop: threading.Event) -> None:
        command = [KUBECTL, "--namespace", self.namespace, "port-forward", target]
        while not stop.is_set():
            with (
                (self.folder / "port-forward.log").open("ab") as log,
                subprocess.Popen(
                    [*command, f"{local}:{port}"],
                    env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                ) as process,
            ):
                while process.poll() is None and not stop.wait(_PAUSE_S):
                    pass
                process.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
