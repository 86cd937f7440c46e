"""What the chart tells the controller, read by the controller's own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controller.operator.config import load_config
from tests.chart.rendering import only, render
from tests.chart.value_sets import VALUE_SETS


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS.keys())
def test_the_controller_understands_its_configuration(
    values: dict[str, Any], tmp_path: Path
) -> None:
    manifests = render(values, name="one", namespace="two")
    path = tmp_path / "operator.yaml"
    path.write_text(only(manifests, "ConfigMap", "-controller")["data"]["operator.yaml"])
    config = load_config(path)

    deployment = only(manifests, "Deployment", "-controller")["spec"]["template"]["spec"]
    (container,) = deployment["containers"]
    assert config.controller_image == container["image"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (config.health_port, config.metrics_port) == (ports["health"], ports["metrics"])
    pods_serve = values.get("metrics", {}).get("pods", {}).get("enabled", True)
    assert config.pod_metrics_port == (9091 if pods_serve else None)
    (url,) = [v["valueFrom"] for v in container["env"] if v["name"] == "NEVA_REDIS_URL"]
    assert url == {
        "secretKeyRef": {"name": config.redis.secret_name, "key": config.redis.secret_key}
    }
    assert config.leader_election.lease_namespace == "two"
    leases = [
        rule["resourceNames"]
        for manifest in manifests
        for rule in manifest.get("rules", [])
        if "resourceNames" in rule
    ]
    if config.leader_election.enabled and values.get("rbac", {}).get("create", True):
        assert leases == [[config.leader_election.lease_name]]
    assert config.namespaces == values.get("controller", {}).get("namespaces", [])


@pytest.mark.parametrize("role", ["worker", "finish"])
def test_a_default_that_is_taken_away_is_an_empty_one(role: str, tmp_path: Path) -> None:
    names = ["resources", "nodeSelector", "tolerations", "podAnnotations", "podLabels"]
    names += ["extraEnv", "extraEnvFrom", "extraVolumes", "extraVolumeMounts"]
    values = {"networkPolicy": {"enabled": True}, role: dict.fromkeys(names)}
    path = tmp_path / "operator.yaml"
    path.write_text(only(render(values), "ConfigMap", "-controller")["data"]["operator.yaml"])
    config = load_config(path)
    defaults = config.worker_defaults if role == "worker" else config.finish_defaults
    assert (defaults.env, defaults.env_from, defaults.labels) == ([], [], {})


def test_accounts_are_the_chart_s_or_the_namespaces_own(tmp_path: Path) -> None:
    path = tmp_path / "operator.yaml"
    for name, expected in (
        ("defaults", ("one-neva-batch-worker", "one-neva-batch-finish")),
        ("existing accounts", ("ours", "ours")),
        ("default accounts", (None, None)),
    ):
        manifests = render(VALUE_SETS[name], name="one")
        path.write_text(only(manifests, "ConfigMap", "-controller")["data"]["operator.yaml"])
        config = load_config(path)
        assert (config.worker_service_account, config.finish_service_account) == expected
