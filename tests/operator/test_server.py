"""What the operator leaves to the API server: rules, preconditions, ownership, garbage collection.

Quick, and first to say what a server does otherwise than the emulator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes
import pytest

from controller.operator.actions import CreateChild
from controller.operator.api import ApiError, ClientTransport, KubeApi
from controller.operator.config import OperatorConfig
from controller.operator.manifests import child_job
from controller.operator.names import FINALIZER, SELECTOR, Role
from controller.operator.read import read_job
from tests.controller.crd.specs import FOLDER, JOB, changed
from tests.kube.fixtures import Cluster
from tests.kube.waiting import eventually
from tests.operator.bench import GROUP, JOBS

pytestmark = pytest.mark.e2e

Obj = dict[str, Any]
NOW = "2026-01-01T00:00:00Z"
CONFIG = OperatorConfig.model_validate(
    {
        "workerImage": "neva/worker:test",
        "controllerImage": "neva/controller:test",
        "redis": {"secretName": "broker"},
        "storage": {"secretName": "storage"},
    }
)


class Server:
    """One namespace, as an administrator and as the operator reaches it."""

    def __init__(self, namespace: str, client: kubernetes.client.ApiClient) -> None:
        self.namespace = namespace
        self.custom = kubernetes.client.CustomObjectsApi(client)
        self.core = kubernetes.client.CoreV1Api(client)
        self.batch = kubernetes.client.BatchV1Api(client)
        self.api = KubeApi(ClientTransport(client))

    def create(self, body: Obj, plural: str = JOBS, **options: Any) -> Obj:
        made = self.custom.create_namespaced_custom_object(
            *GROUP, self.namespace, plural, body, **options
        )
        return dict(made)

    def get(self, name: str) -> Obj:
        found = self.api.get_job(self.namespace, name)
        assert found is not None
        return found

    def started(self) -> Obj:
        """A job that has started."""
        job = self.create(JOB)
        return self.api.write_status({**job}, {"phase": "Running", "startTime": NOW})


@pytest.fixture
def server(cluster: Cluster, namespace: str) -> Iterator[Server]:
    with cluster.client() as client:
        found = Server(namespace, client)
        yield found
        for job in found.api.list_jobs(namespace):
            if job["metadata"].get("finalizers"):
                found.api.set_finalizers(job, [])


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("spec.workers.gpusPerWorker", 3, "spec.workers.gpusPerWorker"),
        ("spec.input.mediaBasePath", ..., "spec.input.mediaBasePath"),
        ("spec.inference.splice_single_frame", "middle", "spec.inference.num_frames"),
        ("spec.inference.min_tokens_to_generate", 300, "spec.inference.min_tokens_to_generate"),
        ("spec.inference.all_probs", True, "spec.inference.all_probs"),
        ("spec.model.uri", "gs://models/m", "spec.model.uri"),
        ("spec.failure.failOnError", "5%", "spec.failure.failOnError"),
        ("spec.workers.shmSize", "lots", "spec.workers.shmSize"),
        ("metadata.name", "a.b", "metadata.name"),
    ],
)
def test_a_wrong_job_is_refused_at_its_field(
    server: Server, path: str, value: object, field: str
) -> None:
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        server.create(changed(JOB, path, value), dry_run="All")
    assert refusal.value.status == 422 and field in str(refusal.value.body)


def test_a_good_job_gets_its_defaults_and_a_good_folder_passes(server: Server) -> None:
    made = server.create(JOB, dry_run="All")
    assert made["spec"]["shards"] == {"maxRows": 64}
    assert made["spec"]["inference"]["insert_media_token"] is None
    assert made["spec"]["failure"]["failOnError"] is True
    assert made["spec"]["workers"]["podTemplate"] == {"spec": {"dnsPolicy": "None"}}
    assert read_job(made | {"metadata": {**made["metadata"], "resourceVersion": "1"}}).spec
    folder = server.create(FOLDER, "dropfolders", dry_run="All")
    assert folder["spec"]["pollSeconds"] == 30
    with pytest.raises(kubernetes.client.ApiException, match="outputBase"):
        server.create(changed(FOLDER, "spec.outputBase", "s3://eval/inbox/x/"), "dropfolders")


@pytest.mark.parametrize("block", ["model", "input", "inference", "output"])
def test_what_answers_depend_on_is_frozen_once_started(server: Server, block: str) -> None:
    server.started()
    change = {
        "model": {"uri": "s3://models/other/"},
        "input": {"prompts": "s3://eval/other.jsonl"},
        "inference": {"greedy": True},
        "output": {"uri": "s3://eval/other/"},
    }[block]
    args = (*GROUP, server.namespace, JOBS, "kitchen")
    with pytest.raises(kubernetes.client.ApiException) as refusal:
        server.custom.patch_namespaced_custom_object(*args, {"spec": {block: change}})
    assert refusal.value.status == 422 and "once the job has started" in str(refusal.value.body)
    server.custom.patch_namespaced_custom_object(*args, {"spec": {"workers": {"replicas": 5}}})
    assert server.get("kitchen")["spec"]["workers"]["replicas"] == 5


def test_a_status_is_written_at_the_version_it_was_made_for(server: Server) -> None:
    job = server.create(JOB)
    server.api.write_status(job, {"phase": "Pending"})
    with pytest.raises(ApiError) as stale:
        server.api.write_status(job, {"phase": "Running"})
    assert stale.value.status == 409
    with pytest.raises(ApiError) as stale:
        server.api.set_finalizers(job, [FINALIZER])
    assert stale.value.status == 409
    marked = server.api.set_finalizers(server.get("kitchen"), [FINALIZER])
    assert marked["metadata"]["finalizers"] == [FINALIZER]
    other = {**job, "metadata": {**job["metadata"], "uid": "0" * 8}}
    server.api.delete_job(other)  # somebody else's: left alone
    assert "deletionTimestamp" not in server.get("kitchen")["metadata"]


def test_the_nights_condition_outlives_the_operators_writes(server: Server) -> None:
    condition = {
        "type": "Compared",
        "status": "True",
        "reason": "Same",
        "message": "as good",
        "lastTransitionTime": NOW,
    }
    server.api.write_condition(server.started(), condition)
    mine = {**condition, "type": "Finished", "reason": "Succeeded"}
    now = server.get("kitchen")
    server.api.write_status(now, {"phase": "Running", "rowsPerSecond": "1.0", "conditions": [mine]})
    status = server.api.write_status(
        server.get("kitchen"), {"phase": "Succeeded", "conditions": [mine]}
    )["status"]
    assert {c["type"] for c in status["conditions"]} == {"Compared", "Finished"}
    assert "rowsPerSecond" not in status, "what isn't applied any more is gone"


@pytest.mark.parametrize("role", list(Role))
def test_the_children_are_taken_and_so_are_their_pods(server: Server, role: Role) -> None:
    """The namespace's PodSecurity is the strictest where there is one to check it."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    server.core.patch_namespace(server.namespace, {"metadata": {"labels": labels}})
    job = read_job(server.create(changed(JOB, "spec.workers.podTemplate", ...)))
    manifest = child_job(job, CreateChild(role, 1, 2), CONFIG)
    made = server.api.apply_child(manifest)
    again = server.api.apply_child(manifest)
    # The version may have grown: a Job controller writes its status at once.
    for key in ("uid", "generation"):
        assert again["metadata"].get(key) == made["metadata"].get(key)
    assert made["spec"]["podFailurePolicy"]["rules"][1]["action"] == "FailJob"
    template = manifest["spec"]["template"]
    _eventually_has_account(server)
    pod = {"metadata": {**template["metadata"], "name": "trial"}, "spec": template["spec"]}
    trial = server.core.create_namespaced_pod(server.namespace, pod, dry_run="All")
    assert trial.spec.automount_service_account_token is False
    if role is Role.WORKER:
        scaled = server.api.patch_child(
            server.namespace, manifest["metadata"]["name"], {"spec": {"parallelism": 1}}
        )
        assert scaled["spec"]["parallelism"] == 1


def test_children_go_with_their_job(server: Server) -> None:
    job = read_job(server.create(JOB))
    server.api.apply_child(child_job(job, CreateChild(Role.PREPARE), CONFIG))
    server.api.delete_job(server.get("kitchen"))
    eventually(
        lambda: not list(server.api.list_children(server.namespace, SELECTOR)), "no child", 150
    )


def _eventually_has_account(server: Server) -> None:
    """A controller makes a new namespace's ServiceAccount, and no pod is taken before."""

    def there() -> bool:
        try:
            server.core.create_namespaced_pod(
                server.namespace,
                {"metadata": {"name": "first"}, "spec": {"containers": []}},
                dry_run="All",
            )
        except kubernetes.client.ApiException as error:
            return "service account" not in str(error.body)
        return True

    eventually(there, "the namespace's ServiceAccount", 60)
