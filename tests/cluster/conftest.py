"""The release under test: a new namespace, the demo's servers, the chart by Helm's engine."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from helm_python import Config, HelmError

from tests.cluster.lab import CHART, CRDS, RELEASE, Lab, demo_manifests, release_values
from tests.kube.fixtures import KUBECONFIG, flat_kubeconfig

KEEP = "NEVA_KEEP_NAMESPACE"


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file, whatever list of files KUBECONFIG is."""
    if not os.environ.get(KUBECONFIG):
        pytest.fail("KUBECONFIG is not set: these tests need a cluster whose nodes run pods")
    return flat_kubeconfig(tmp_path_factory.mktemp("kubeconfig"))


@pytest.fixture(scope="module")
def helm(kubeconfig: Path, lab: Lab) -> Iterator[Config]:
    with Config(kubeconfig_path=kubeconfig, namespace=lab.namespace) as found:
        yield found


@pytest.fixture(scope="module")
def lab(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An empty namespace, deleted at the end unless NEVA_KEEP_NAMESPACE is set."""
    name = f"neva-cluster-{uuid.uuid4().hex[:8]}"
    lab = Lab(kubeconfig, name, tmp_path_factory.mktemp("lab"))
    lab.make_namespace()
    yield lab
    if KEEP in os.environ:
        print(f"{KEEP}: namespace {name} is left")
        return
    for kind in ("videonevajobs", "dropfolders"):
        # No operator is left to take its finalizer off.
        for item in lab.items(kind) if lab.run("get", kind)[0] == 0 else []:
            patch = '{"metadata":{"finalizers":null}}'
            lab.run("patch", kind, item["metadata"]["name"], "--type=merge", "-p", patch)
    lab.run("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def release(lab: Lab, helm: Config) -> str:
    """The chart's release, ready; its name."""
    lab.kubectl("apply", "-f", "-", stdin=demo_manifests())
    lab.kubectl("rollout", "status", "deployment/neva-demo", "--timeout=600s", timeout_s=660)
    adopt_crds(lab)
    try:
        helm.install(CHART, RELEASE, release_values(lab.namespace), timeout=300)
    except HelmError as error:
        lab.fail(f"helm install: {error}")
    for workload in lab.kubectl("get", "deployments,statefulsets", "-o", "name").split():
        lab.kubectl("rollout", "status", workload, "--timeout=600s", timeout_s=660)
    return RELEASE


def adopt_crds(lab: Lab) -> None:
    """Resource definitions that are there already become the release's, as Helm wants it."""
    for crd in CRDS:
        if lab.run("get", "crd", crd)[0] != 0:
            continue
        owner = (
            f"meta.helm.sh/release-name={RELEASE}",
            f"meta.helm.sh/release-namespace={lab.namespace}",
        )
        # As this chart has them, whoever wrote them last: Helm would call a difference a conflict.
        path = CHART / "files" / "crds" / f"{crd}.yaml"
        lab.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
        lab.kubectl("annotate", "--overwrite", "crd", crd, *owner)
        lab.kubectl("label", "--overwrite", "crd", crd, "app.kubernetes.io/managed-by=Helm")


@pytest.fixture(scope="module")
def s3(lab: Lab, release: str) -> Iterator[None]:
    """The AWS_ variables lead to the demo's S3 server in the cluster."""
    with lab.port_forward("service/neva-demo", 9000) as port, pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "demo")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "demo")
        patch.setenv("AWS_REGION", "us-east-1")
        yield
