"""What a pod's process gets of the pod's manifest."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.kube.kubelet.environment import (
    ConfigMissing,
    command_line,
    container_environment,
    decoded,
    expand,
    make_volumes,
    mounted,
    rewritten,
)

POD: dict[str, Any] = {
    "metadata": {"name": "p", "namespace": "n", "labels": {"a/b": "c"}},
    "spec": {"nodeName": "node", "containers": [{"name": "main"}]},
}
DATA = {
    ("Secret", "s"): {"KEY": "secret", "OTHER": "x"},
    ("ConfigMap", "c"): {"config.yaml": "a: 1", "NAME": "map"},
}


def lookup(kind: str, name: str) -> dict[str, str] | None:
    return DATA.get((kind, name))


def environment(*env: dict[str, Any], env_from: object = ()) -> dict[str, str]:
    return container_environment({"env": list(env), "envFrom": env_from}, POD, lookup)


def reference(name: str, kind: str, key: str, **more: object) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}


def test_values_come_from_secrets_config_maps_and_the_pod() -> None:
    assert environment(reference("s", "secret", "KEY")) == {"V": "secret"}
    assert environment(reference("c", "configMap", "NAME")) == {"V": "map"}
    for path, value in {
        "metadata.name": "p",
        "metadata.labels['a/b']": "c",
        "spec.nodeName": "node",
        "status.podIP": "127.0.0.1",
    }.items():
        entry = {"name": "V", "valueFrom": {"fieldRef": {"fieldPath": path}}}
        assert environment(entry) == {"V": value}


def test_whole_secrets_come_first_and_single_variables_win() -> None:
    sources = [{"secretRef": {"name": "s"}}, {"prefix": "C_", "configMapRef": {"name": "c"}}]
    found = environment({"name": "KEY", "value": "mine"}, env_from=sources)
    assert (found["KEY"], found["OTHER"], found["C_NAME"]) == ("mine", "x", "map")


def test_what_is_missing_is_named_in_the_kubelets_words() -> None:
    with pytest.raises(ConfigMissing, match='secret "gone" not found'):
        environment(reference("gone", "secret", "KEY"))
    with pytest.raises(ConfigMissing, match="couldn't find key NO in Secret n/s"):
        environment(reference("s", "secret", "NO"))
    assert environment(reference("gone", "secret", "KEY", optional=True)) == {}
    assert environment(env_from=[{"secretRef": {"name": "gone", "optional": True}}]) == {}


def test_variables_refer_to_those_before_them() -> None:
    found = environment(
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)-$(C)-$$(A)"},
        {"name": "C", "value": "3"},
    )
    assert found["B"] == "1-$(C)-$(A)"
    container = {"command": ["run", "$(A)"], "args": ["$(NO)"]}
    assert command_line(container, found) == ["run", "1", "$(NO)"]
    assert expand("$A $(A", {"A": "1"}) == "$A $(A"


def test_volumes_are_folders_and_paths_below_a_mount_lead_there(tmp_path: Path) -> None:
    pod = {
        **POD,
        "spec": {
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                {"name": "config", "configMap": {"name": "c"}},
                {
                    "name": "keys",
                    "secret": {"secretName": "s", "items": [{"key": "KEY", "path": "k"}]},
                },
            ]
        },
    }
    volumes = make_volumes(pod, tmp_path, lookup)
    assert (volumes["config"] / "config.yaml").read_text(encoding="utf-8") == "a: 1"
    assert [path.name for path in volumes["keys"].iterdir()] == ["k"]
    container = {
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "config", "mountPath": "/tmp/config/"},
        ]
    }
    mounts = mounted(container, volumes)
    assert rewritten("/tmp/config/config.yaml", mounts) == str(volumes["config"] / "config.yaml")
    assert rewritten("/tmp", mounts) == str(volumes["tmp"])
    for untouched in ("/tmpfs", "file:///tmp/x", "relative/tmp"):
        assert rewritten(untouched, mounts) == untouched
    with pytest.raises(ConfigMissing, match='configmap "gone" not found'):
        gone = {"name": "x", "configMap": {"name": "gone"}}
        make_volumes({**POD, "spec": {"volumes": [gone]}}, tmp_path, lookup)


def test_a_secrets_data_is_decoded() -> None:
    secret = {"data": {"a": base64.b64encode(b"b").decode()}}
    assert decoded("Secret", secret) == {"a": "b"}
    assert decoded("ConfigMap", {"data": {"a": "b"}}) == {"a": "b"}
    assert decoded("Secret", {}) == {}
