"""The command `operator` and its configuration."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from controller.operator.config import load_config
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
