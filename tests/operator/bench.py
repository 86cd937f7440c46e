"""A cluster with our operator on it, as a process, and everything a job needs around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes
import yaml

from neva.store import Store, open_store
from neva.tethered import tethered
from tests.kube.fixtures import Cluster
from tests.kube.kubelet.node import SELECTOR
from tests.support.jobs import DEMO_MODEL
from tests.support.processes import free_port

Obj = dict[str, Any]

GROUP = ("neva-batch.dev", "v1alpha1")
JOBS = "videonevajobs"
WAIT_S = 480.0  # two shared cores, and a Job controller that waits between tries
AWS_VARIABLES = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")


@dataclass
class Bench:
    """One namespace of a cluster, with its operator.

    Attributes:
        bucket: base URI of prompts, videos and outputs.
    """

    cluster: Cluster
    namespace: str
    folder: Path
    redis_url: str
    bucket: str
    client: kubernetes.client.ApiClient
    config: Obj = field(default_factory=dict)
    operator: subprocess.Popen[bytes] | None = None
    metrics_urls: dict[str, str] = field(default_factory=dict)

    # The operator

    def start_operator(self, *, cut: str = "") -> subprocess.Popen[bytes]:
        """Start the operator; with `cut`, it kills itself there (see tests.operator.cut)."""
        path = self.folder / "operator.yaml"
        path.write_text(yaml.safe_dump(self.operator_config()), encoding="utf-8")
        module = "tests.operator.cut" if cut else "controller"
        # It dies with the tests, however they end.
        command = tethered([sys.executable, "-m", module])
        with (self.folder / "operator.log").open("ab") as log:
            self.operator = subprocess.Popen(
                [*command, "operator", "--config", str(path)],
                env={
                    **os.environ,
                    "KUBECONFIG": str(self.cluster.kubeconfig_for("operator")),
                    "NEVA_REDIS_URL": self.redis_url,
                    "NEVA_TEST_CUT": cut,
                    "NEVA_LEASE_TTL_S": "3",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.operator

    def stop_operator(self, signum: int = signal.SIGTERM) -> int:
        assert self.operator is not None
        self.operator.send_signal(signum)
        return self.operator.wait(60)

    def operator_config(self) -> Obj:
        return {
            "workerImage": "neva/worker:test",
            "controllerImage": "neva/controller:test",
            "redis": {"secretName": "broker", "secretKey": "url"},
            "storage": {"secretName": "storage"},
            "namespaces": [self.namespace],
            "leaderElection": {"leaseName": "operator", "leaseNamespace": self.namespace},
            "statusIntervalSeconds": 1,
            "stepIntervalSeconds": 0.5,
            "healthPort": 0,
            "metricsPort": 0,
            "workerDefaults": {"nodeSelector": SELECTOR},
            "finishDefaults": {"nodeSelector": SELECTOR},
            **self.config,
        }

    def log(self) -> str:
        path = self.folder / "operator.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Objects

    def make_secrets(self) -> None:
        self.secret("broker", {"url": self.redis_url})
        self.secret("storage", {name: os.environ[name] for name in AWS_VARIABLES})

    def secret(self, name: str, data: dict[str, str]) -> None:
        core = kubernetes.client.CoreV1Api(self.client)
        core.create_namespaced_secret(
            self.namespace, {"metadata": {"name": name}, "stringData": data}
        )

    def manifest(self, name: str = "kitchen", **spec: Any) -> Obj:
        """A job of the demo model over what lies in the bucket."""
        merged = {
            "model": {"uri": DEMO_MODEL.as_uri(), "precision": "fp32"},
            "input": {
                "prompts": f"{self.bucket}/prompts.jsonl",
                "mediaBasePath": f"{self.bucket}/videos/",
            },
            "inference": {"greedy": True, "tokens_to_generate": 24},
            "output": {"uri": f"{self.bucket}/runs/{name}/"},
            "workers": {"replicas": 1, "gpusPerWorker": 0},
            "shards": {"maxRows": 6},
        }
        for key, value in spec.items():
            both = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if both else value  # type: ignore[dict-item]
        return {
            "apiVersion": "/".join(GROUP),
            "kind": "VideoNevaJob",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": merged,
        }

    def apply(self, manifest: Obj) -> Obj:
        return dict(
            self._custom.create_namespaced_custom_object(*GROUP, self.namespace, JOBS, manifest)
        )

    def make_folder(self, name: str, spec: Obj) -> None:
        body = {
            "apiVersion": "/".join(GROUP),
            "kind": "DropFolder",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "uri": f"{self.bucket}/{name}/",
                "outputBase": f"{self.bucket}/runs/",
                "pollSeconds": 1,
                "settleSeconds": 1,
                **spec,
            },
        }
        self._custom.create_namespaced_custom_object(*GROUP, self.namespace, "dropfolders", body)

    def serve_metrics(self) -> None:
        """Have the operator and the pods serve metrics; all pods share this machine's ports."""
        ports = {name: free_port() for name in ("operator", "worker", "finish")}
        own_port = {"name": "NEVA_METRICS_PORT", "value": str(ports["finish"])}
        finish = {**self.operator_config()["finishDefaults"], "env": [own_port]}
        self.config |= {
            "metricsPort": ports["operator"],
            "podMetricsPort": ports["worker"],
            "finishDefaults": finish,
        }
        self.metrics_urls = {k: f"http://127.0.0.1:{v}/metrics" for k, v in ports.items()}

    def patch(self, name: str, spec: Obj) -> None:
        self._custom.patch_namespaced_custom_object(
            *GROUP, self.namespace, JOBS, name, {"spec": spec}
        )

    def delete(self, name: str) -> None:
        self._custom.delete_namespaced_custom_object(*GROUP, self.namespace, JOBS, name)

    def get(self, name: str) -> Obj | None:
        try:
            return dict(
                self._custom.get_namespaced_custom_object(*GROUP, self.namespace, JOBS, name)
            )
        except kubernetes.client.ApiException as error:
            if error.status == 404:
                return None
            raise

    def status(self, name: str) -> Obj:
        return (self.get(name) or {}).get("status") or {}

    def condition(self, name: str, kind: str) -> Obj:
        for condition in self.status(name).get("conditions") or []:
            if condition["type"] == kind:
                return dict(condition)
        return {}

    def children(self) -> list[Obj]:
        return self._items(kubernetes.client.BatchV1Api(self.client).list_namespaced_job)

    def pods(self, role: str | None = None) -> list[Obj]:
        pods = self._items(kubernetes.client.CoreV1Api(self.client).list_namespaced_pod)
        return [
            pod
            for pod in pods
            if role in (None, (pod["metadata"].get("labels") or {}).get("neva-batch.dev/role"))
        ]

    def events(self) -> list[Obj]:
        events = self._items(kubernetes.client.CoreV1Api(self.client).list_namespaced_event)
        return [e for e in events if e["involvedObject"]["kind"] == "VideoNevaJob"]

    def running(self, role: str) -> list[Obj]:
        return [
            pod
            for pod in self.pods(role)
            if any("running" in s["state"] for s in _statuses(pod))
            and "deletionTimestamp" not in pod["metadata"]
        ]

    # Waiting

    def wait(self, what: str, condition: Callable[[], Any], timeout_s: float = WAIT_S) -> Any:
        """Wait until `condition`; tells what the operator said when it never comes."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := condition()):
            ended = self.operator is not None and self.operator.poll() is not None
            if ended or time.monotonic() > deadline_s:
                names = [job["metadata"]["name"] for job in self._jobs()]
                states = {name: self.status(name) for name in names}
                raise AssertionError(
                    f"never came: {what}\n{json.dumps(states, indent=1)}\n"
                    f"{self._seen()}\n{self.log()[-6000:]}"
                )
            time.sleep(0.1)
        return found

    def wait_phase(self, name: str, *phases: str) -> Obj:
        def there() -> Obj | None:
            status = self.status(name)
            return status if status.get("phase") in phases else None

        return dict(self.wait(f"{name} is {' or '.join(phases)}", there))

    def _seen(self) -> str:
        """Children, pods and events in a line each, for whoever wasn't there."""
        lines = []
        for child in self.children():
            status = {k: v for k, v in child["status"].items() if k != "uncountedTerminatedPods"}
            lines.append(f"Job {child['metadata']['name']}: {json.dumps(status)}")
        for pod in self.pods():
            status = pod.get("status") or {}
            states = [s.get("state") for s in _statuses(pod)]
            lines.append(
                f"Pod {pod['metadata']['name']} on {pod['spec'].get('nodeName')}: "
                f"{status.get('phase')} {json.dumps(states)}"
                f"{' terminating' if 'deletionTimestamp' in pod['metadata'] else ''}"
            )
        told = self._items(kubernetes.client.CoreV1Api(self.client).list_namespaced_event)
        for event in told[-60:]:
            about = event["involvedObject"]
            words = f"{about['kind']} {about['name']}: {event['reason']}: {event['message']}"
            lines.append(f"Event {event.get('type')} {words[:600]}")
        return "\n".join(lines)

    # Outputs

    def output(self, name: str) -> Store:
        return open_store(f"{self.bucket}/runs/{name}/")

    def lines(self, name: str, file: str) -> list[Obj]:
        return [json.loads(line) for line in self.output(name).get(file).splitlines()]

    def num_parts(self, name: str) -> int:
        return sum("/part-" in item.key for item in self.output(name).list("shards/"))

    def num_commits(self, name: str) -> int:
        return sum(item.key.endswith("/commit.json") for item in self.output(name).list("shards/"))

    @property
    def _custom(self) -> kubernetes.client.CustomObjectsApi:
        return kubernetes.client.CustomObjectsApi(self.client)

    def _jobs(self) -> list[Obj]:
        found = self._custom.list_namespaced_custom_object(*GROUP, self.namespace, JOBS)
        return list(found["items"])

    def _items(self, call: Callable[..., Any]) -> list[Obj]:
        found = self.client.sanitize_for_serialization(call(self.namespace))
        return list(found["items"])


def _statuses(pod: Obj) -> list[Obj]:
    return (pod.get("status") or {}).get("containerStatuses") or []
