"""The cluster that the operator's tests run on: the emulator, or the one that KUBECONFIG names.

On a real cluster its own controllers are at work, and only pods are run by us. Tests that break
requests, or look at them, need the emulator: they ask for `emulator`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kubernetes
import pytest

from controller.crd import GROUP, VERSION, all_crds
from tests.kube.emulator import Emulator, running_emulator
from tests.kube.kubelet import Kubelet
from tests.kube.waiting import eventually

KUBECONFIG = "KUBECONFIG"
KUBECTL = Path(sys.executable).with_name("kubectl")
FIELD_MANAGER = "neva-batch-tests"
# On a real cluster nothing else is touched, and no other pod's command is run here.
NAMESPACE_PREFIX = "neva-test-"


@dataclass
class Cluster:
    """An API server with our resource definitions.

    Attributes:
        kubeconfig: of an administrator.
        emulator: None on a real cluster.
    """

    kubeconfig: Path
    folder: Path
    emulator: Emulator | None

    @property
    def is_real(self) -> bool:
        return self.emulator is None

    def client(self) -> kubernetes.client.ApiClient:
        """An administrator's client; close it."""
        return kubernetes.config.new_client_from_config(str(self.kubeconfig))

    def kubeconfig_for(self, user: str) -> Path:
        """A kubeconfig whose requests the emulator logs as `user`'s; the one there is, on a real
        cluster."""
        if self.emulator is None:
            return self.kubeconfig
        return self.emulator.write_kubeconfig(self.folder / f"{user}.kubeconfig", user)

    def kubelet(self, folder: Path, **options: object) -> Kubelet:
        """A kubelet for this cluster, not started; see Kubelet for the options."""
        log_folder = self.emulator.log_folder if self.emulator is not None else None
        return Kubelet(
            self.kubeconfig_for("kubelet"),
            folder,
            log_folder=log_folder,
            plays_controllers=not self.is_real,
            namespace_prefix=NAMESPACE_PREFIX if self.is_real else "",
            **options,  # type: ignore[arg-type]
        )


def install_crds(client: kubernetes.client.ApiClient) -> None:
    """Our resource definitions, as `kubectl apply --server-side --force-conflicts` does it."""
    dynamic = kubernetes.dynamic.DynamicClient(client)
    definitions = dynamic.resources.get(
        api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition"
    )
    for crd in all_crds():
        dynamic.server_side_apply(
            definitions, body=crd, field_manager=FIELD_MANAGER, force_conflicts=True
        )
    for crd in all_crds():
        plural = crd["spec"]["names"]["plural"]
        eventually(lambda plural=plural: _is_served(client, plural), f"{plural} are served", 60)


def _is_served(client: kubernetes.client.ApiClient, plural: str) -> bool:
    """Whether a kind is discovered and can be listed, which takes a real API server a moment.

    An operator looks at discovery once, when it starts.
    """
    custom = kubernetes.client.CustomObjectsApi(client)
    try:
        found = custom.get_api_resources(GROUP, VERSION)
        custom.list_cluster_custom_object(GROUP, VERSION, plural, limit=1)
    except kubernetes.client.ApiException as error:
        if error.status in (404, 429, 503):
            return False
        raise
    return plural in {resource.name for resource in found.resources}


def flat_kubeconfig(folder: Path) -> Path:
    """What KUBECONFIG means, as one file that names no others: not every client of ours reads a
    list of files, or paths relative to them."""
    command = [KUBECTL, "config", "view", "--raw", "--flatten", "--minify"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, f"KUBECONFIG: {shown.stderr}"
    path = folder / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(shown.stdout, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster of this session."""
    folder = tmp_path_factory.mktemp("cluster")
    if os.environ.get(KUBECONFIG):
        found = Cluster(flat_kubeconfig(folder), folder, None)
        with found.client() as client:
            install_crds(client)
        yield found
        return
    with running_cluster(folder) as emulated:
        yield emulated


@pytest.fixture
def emulated_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An emulator of this test's own, whatever KUBECONFIG says: to break and count requests."""
    with running_cluster(tmp_path) as emulated:
        yield emulated


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """An emulator with our resource definitions, for as long as the block lasts."""
    logs = folder / "pod-logs"
    logs.mkdir()
    with running_emulator(logs) as emulator:
        kubeconfig = emulator.write_kubeconfig(folder / "admin.kubeconfig", "admin")
        found = Cluster(kubeconfig, folder, emulator)
        with found.client() as client:
            install_crds(client)
        emulator.requests.clear()
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A new namespace; everything in it is deleted afterwards."""
    name = f"{NAMESPACE_PREFIX}{uuid.uuid4().hex[:8]}"
    with cluster.client() as client:
        core = kubernetes.client.CoreV1Api(client)
        core.create_namespace({"metadata": {"name": name}})
        yield name
        core.delete_namespace(name)
