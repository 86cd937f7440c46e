"""A user with a kubeconfig of an emulated cluster, and jobs in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from controller.cli import app
from controller.cluster.jobs import UsersCluster
from controller.operator.api import custom_path
from neva.kube import APPLY
from tests.kube.emulator import Emulator
from tests.kube.fixtures import Cluster, running_cluster

NAMESPACE = "default"


class User:
    """Calls commands, and plays the operator."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.cluster = UsersCluster()

    def neva(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result

    def make(self, name: str, output: str = "s3://eval/out/", **spec: Any) -> dict[str, Any]:
        return self.cluster.create(
            {
                "apiVersion": "neva-batch.dev/v1alpha1",
                "kind": "VideoNevaJob",
                "metadata": {"name": name},
                "spec": {
                    "model": {"uri": "s3://models/m/"},
                    "input": {"prompts": "s3://eval/p.jsonl", "mediaBasePath": "s3://eval/v/"},
                    "output": {"uri": output},
                    **spec,
                },
            }
        )

    def tell(self, name: str, **status: Any) -> None:
        """Write a job's status as the operator does."""
        body = {
            "apiVersion": "neva-batch.dev/v1alpha1",
            "kind": "VideoNevaJob",
            "metadata": {"name": name},
            "status": status,
        }
        path = f"{custom_path(NAMESPACE, name)}/status?fieldManager=neva-batch&force=true"
        self.cluster.transport("PATCH", path, body, APPLY)


@pytest.fixture(scope="session")
def lent_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An emulator for all tests here, whatever KUBECONFIG says."""
    with running_cluster(tmp_path_factory.mktemp("users")) as emulated:
        yield emulated


@pytest.fixture
def user(lent_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    assert lent_cluster.emulator is not None
    monkeypatch.setenv("KUBECONFIG", str(lent_cluster.kubeconfig))
    user = User(lent_cluster.emulator)
    yield user
    lent_cluster.emulator.requests.heal()
    for body in user.cluster.jobs(everywhere=False):
        user.cluster.api.delete_job(body)


def condition(kind: str, reason: str, message: str = "", status: str = "True") -> dict[str, str]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
