"""The command `operator` and its configuration."""

from __future__ import annotations

import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from controller.operator.config import load_config
from controller.operator.health import HttpServer, metrics_text
from neva.errors import ConfigError
from tests.kube.emulator import running_emulator
from tests.support.jobs import NEVA

CONFIG = {"workerImage": "w", "controllerImage": "c", "redis": {"secretName": "broker"}}


def write(folder: Path, config: object) -> Path:
    path = folder / "operator.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_all_problems_of_a_configuration_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, {**CONFIG, "workerImage": "", "redis": {}, "redisUrl": "x"})
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    for key in ("workerImage", "redis.secretName", "redisUrl"):
        assert key in caught.value.message


@pytest.mark.parametrize("text", [None, "[", "- 1"])
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "operator.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"operator\.yaml"):
        load_config(path)


def test_a_cluster_without_our_definitions_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, CONFIG)
    with running_emulator() as emulator:
        kubeconfig = emulator.write_kubeconfig(tmp_path / "config", "operator")
        variables = {**os.environ, "KUBECONFIG": str(kubeconfig), "NEVA_REDIS_URL": "redis://x"}
        command = [NEVA, "operator", "--config", path]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install the resource definitions first" in done.stderr


def test_no_cluster_at_all_is_told(tmp_path: Path) -> None:
    variables = {k: v for k, v in os.environ.items() if not k.startswith("KUBE")}
    variables["NEVA_REDIS_URL"] = "redis://x"
    command = [NEVA, "operator", "--config", write(tmp_path, CONFIG)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no access to a cluster" in done.stderr


def test_pages_are_served_by_path() -> None:
    server = HttpServer(0, {"/healthz": lambda: (200, "ok\n"), "/readyz": lambda: (503, "no\n")})
    server.start()
    base = f"http://127.0.0.1:{server.port}"
    assert urllib.request.urlopen(f"{base}/healthz").read() == b"ok\n"
    for path, status in (("/readyz", 503), ("/secret", 404)):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(base + path)
        assert caught.value.code == status
        caught.value.close()
    server.stop()


def test_metrics_are_prometheus_text() -> None:
    text = metrics_text(
        {
            "a_total": ("counter", "Things.", 3),
            "b": ("gauge", "By phase.", [({"phase": "Running"}, 2), ({"phase": 'a"\\\n'}, 1)]),
            "c_seconds": ("gauge", "When.", [({}, 1795780072.5)]),
        }
    )
    assert text.splitlines() == [
        "# HELP a_total Things.",
        "# TYPE a_total counter",
        "a_total 3",
        "# HELP b By phase.",
        "# TYPE b gauge",
        'b{phase="Running"} 2',
        r'b{phase="a\"\\\n"} 1',
        "# HELP c_seconds When.",
        "# TYPE c_seconds gauge",
        "c_seconds{} 1795780072.5",
    ]
