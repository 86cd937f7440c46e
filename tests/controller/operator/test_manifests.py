"""The children's manifests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controller.operator.actions import CreateChild
from controller.operator.config import OperatorConfig
from controller.operator.manifests import child_job
from controller.operator.names import Role, child_name
from tests.controller.operator.examples import job
from tests.kube.kubelet.environment import command_line, container_environment
from worker.cli import EXIT_DRAINED

CONFIG = OperatorConfig.model_validate(
    {
        "workerImage": "worker:1",
        "controllerImage": "controller:1",
        "imagePullSecrets": [{"name": "pull"}],
        "workerServiceAccount": "workers",
        "redis": {
            "secretName": "broker",
            "secretKey": "url",
            "caConfigMap": {"name": "c", "key": "k"},
        },
        "storage": {"secretName": "s3", "endpointUrl": "https://s3:9000", "region": "eu-1"},
        "workerDefaults": {
            "resources": {"requests": {"cpu": "4", "memory": "8Gi"}},
            "nodeSelector": {"pool": "gpu"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}],
            "env": [{"name": "HOME", "value": "/var/cache/neva"}, {"name": "X", "value": "1"}],
        },
    }
)


def worker(**spec: Any) -> dict[str, Any]:
    return child_job(job(**spec), CreateChild(Role.WORKER, 3, 2, 5), CONFIG)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return pod


def env_of(manifest: dict[str, Any]) -> dict[str, Any]:
    container = pod_of(manifest)["containers"][0]
    return {entry["name"]: entry.get("value") or entry["valueFrom"] for entry in container["env"]}


ALL = [
    child_job(job(judge={"against": ["s3://eval/a.jsonl"], "apiKeySecret": "key"}), child, CONFIG)
    for child in (CreateChild(Role.PREPARE), CreateChild(Role.WORKER, 1), CreateChild(Role.FINISH))
]


@pytest.mark.parametrize("manifest", ALL, ids=["prepare", "worker", "finish"])
def test_every_pod_satisfies_the_restricted_level(manifest: dict[str, Any]) -> None:
    pod = pod_of(manifest)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
    assert {next(iter(set(v) - {"name"})) for v in pod["volumes"]} <= {"emptyDir", "configMap"}
    assert pod["automountServiceAccountToken"] is False
    assert pod["restartPolicy"] == "Never"


@pytest.mark.parametrize("manifest", ALL, ids=["prepare", "worker", "finish"])
def test_every_child_belongs_to_its_job(manifest: dict[str, Any]) -> None:
    (owner,) = manifest["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("VideoNevaJob", "kitchen", "uid-1")
    assert owner["controller"] and owner["blockOwnerDeletion"]
    labels = manifest["metadata"]["labels"]
    assert labels["neva-batch.dev/job"] == "kitchen"
    assert labels.items() <= manifest["spec"]["template"]["metadata"]["labels"].items()


def test_secrets_go_only_to_the_pods_that_need_them() -> None:
    prepare, workers, finish = (env_of(manifest) for manifest in ALL)
    broker = {"secretKeyRef": {"name": "broker", "key": "url"}}
    assert workers["NEVA_REDIS_URL"] == broker
    assert "NEVA_REDIS_URL" not in prepare and "NEVA_REDIS_URL" not in finish
    assert finish["API_TOKEN"] == {"secretKeyRef": {"name": "key", "key": "API_TOKEN"}}
    assert "API_TOKEN" not in prepare and "API_TOKEN" not in workers


def test_the_worker_job_is_a_work_queue() -> None:
    manifest = worker()
    spec = manifest["spec"]
    assert manifest["metadata"]["name"] == "kitchen-workers-3"
    assert "completions" not in spec
    assert (spec["parallelism"], spec["backoffLimit"]) == (2, 6)
    disrupted, fail, told = spec["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in (disrupted, fail, told)] == ["Ignore", "FailJob", "Ignore"]
    assert fail["onExitCodes"]["values"] == [64]
    assert told["onExitCodes"]["values"] == [EXIT_DRAINED]
    container = pod_of(manifest)["containers"][0]
    output = "s3://eval/runs/kitchen/"
    assert container["command"] == ["neva", "worker", "--output", output, "--until-done"]


def test_a_kubelet_passes_the_job_on_as_it_is() -> None:
    uri = "s3://eval/runs/$(HOME)-$$(HOME)-$$/"
    seen = job(output={"uri": uri})
    manifest = child_job(seen, CreateChild(Role.WORKER, 1), CONFIG)
    container = pod_of(manifest)["containers"][0]
    variables = container_environment(container, {}, lambda kind, name: {"url": "redis://x"})
    assert json.loads(variables["NEVA_JOB"])["spec"]["output"]["uri"] == uri
    assert uri in command_line(container, variables)


def test_what_the_job_says_of_its_pods_is_followed() -> None:
    spread = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}
    affinity = {"nodeAffinity": {}}
    pod = pod_of(
        worker(
            model={"tensorParallelSize": 4},
            workers={
                "gpuResourceName": "nvidia.com/mig-3g.40gb",
                "nodeSelector": {"zone": "a"},
                "tolerations": [{"key": "spot", "operator": "Exists"}],
                "affinity": affinity,
                "runtimeClassName": "nvidia",
                "priorityClassName": "low",
                "topologySpreadConstraints": [spread],
                "resources": {"limits": {"memory": "64Gi"}},
                "shmSize": "2Gi",
                "image": "mine:2",
                "serviceAccountName": "me",
            },
        )
    )
    container = pod["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "4", "memory": "8Gi", "nvidia.com/mig-3g.40gb": "4"},
        "limits": {"memory": "64Gi", "nvidia.com/mig-3g.40gb": "4"},
    }
    assert pod["nodeSelector"] == {"pool": "gpu", "zone": "a"}
    assert [t["key"] for t in pod["tolerations"]] == ["gpu", "spot"]
    assert (pod["affinity"], pod["topologySpreadConstraints"]) == (affinity, [spread])
    assert (pod["runtimeClassName"], pod["priorityClassName"]) == ("nvidia", "low")
    assert (container["image"], pod["serviceAccountName"]) == ("mine:2", "me")
    shm = next(volume for volume in pod["volumes"] if volume["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "2Gi"}


def test_a_cpu_worker_asks_for_no_gpu() -> None:
    resources = pod_of(worker(workers={"gpusPerWorker": 0}))["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "4", "memory": "8Gi"}}


def test_kueue_gets_the_job_suspended_and_labelled() -> None:
    manifest = worker(workers={"queueName": "gpus"})
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
    assert manifest["spec"]["suspend"] is True
    assert "suspend" not in worker()["spec"], "else two would decide on it"


def test_the_template_is_merged_last_and_cant_lose_what_the_operator_relies_on() -> None:
    template = {
        "metadata": {"labels": {"team": "a", "neva-batch.dev/job": "other"}},
        "spec": {
            "restartPolicy": "OnFailure",
            "containers": [{"name": "worker", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]}],
        },
    }
    manifest = worker(workers={"podTemplate": template})
    labels = manifest["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["neva-batch.dev/job"]) == ("a", "kitchen")
    assert pod_of(manifest)["restartPolicy"] == "Never"
    assert env_of(manifest)["NCCL_DEBUG"] == "INFO"
    told = json.loads(env_of(manifest)["NEVA_JOB"])
    assert "podTemplate" not in told["spec"]["workers"]
    assert told["spec"]["workers"]["replicas"] == 2


def test_the_releases_environment_wins_over_ours() -> None:
    assert env_of(worker())["HOME"] == "/var/cache/neva"
    assert env_of(worker())["X"] == "1"
    assert env_of(worker())["AWS_ENDPOINT_URL"] == "https://s3:9000"


def test_a_jobs_own_storage_secret_replaces_the_releases() -> None:
    def secrets(manifest: dict[str, Any]) -> list[str]:
        sources = pod_of(manifest)["containers"][0]["envFrom"]
        return [source["secretRef"]["name"] for source in sources]

    assert secrets(worker()) == ["s3"]
    assert secrets(worker(storage={"secretName": "mine"})) == ["mine"]


def test_long_names_are_cut_and_stay_different() -> None:
    names = {child_name("j" * 63, Role.WORKER, number) for number in (1, 2)}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)
