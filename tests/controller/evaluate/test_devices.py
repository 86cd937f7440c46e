"""Where the ranks run, for every kind of trainer and machine."""

from __future__ import annotations

from typing import Any

import pytest

from controller.evaluate.devices import Devices, count_gpus, devices_of, runs_on_cpu
from neva.errors import ConfigError


@pytest.mark.parametrize("asked", [4, "auto", -1])
def test_devices_are_the_ranks(asked: object) -> None:
    assert devices_of({"devices": asked}, 2, 2) == Devices("gpu", 4)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"devices": 2}, "they must be equal"),
        ({"devices": 0}, "trainer.devices is 0: a number of devices"),
        ({"devices": [0, 1]}, "CUDA_VISIBLE_DEVICES chooses which"),
        ({"devices": True}, "trainer.devices is True"),
        ({"devices": 4, "num_nodes": 2}, "trainer.num_nodes is 2"),
        ({"devices": 4, "accelerator": "tpu"}, "trainer.accelerator is 'tpu': gpu, cpu or auto"),
    ],
)
def test_devices_that_can_not_be(trainer: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        devices_of(trainer, 4, 1)


def never() -> int:
    raise AssertionError("nobody's GPUs are to be counted")


@pytest.mark.parametrize(
    ("accelerator", "num_gpus", "expected"),
    [("gpu", 4, False), ("gpu", 8, False), ("auto", 4, False), ("auto", 0, True)],
)
def test_gpus_are_taken_where_they_are(accelerator: str, num_gpus: int, expected: bool) -> None:
    assert runs_on_cpu(Devices(accelerator, 4), lambda: num_gpus) is expected


def test_the_cpu_needs_no_gpus_counted() -> None:
    assert runs_on_cpu(Devices("cpu", 4), never)


def test_without_a_gpu_the_cpu_is_offered() -> None:
    with pytest.raises(ConfigError) as caught:
        runs_on_cpu(Devices("gpu", 4), lambda: 0)
    assert caught.value.message == (
        "trainer.devices=4: there is no GPU on this machine; trainer.accelerator=cpu runs the 4 "
        "ranks on its CPU"
    )


@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_too_few_gpus_are_counted_for_the_user(accelerator: str) -> None:
    with pytest.raises(ConfigError, match=r"this machine has 1 GPU; lower trainer\.devices"):
        runs_on_cpu(Devices(accelerator, 4), lambda: 1)


def test_a_machine_without_pytorch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.evaluate.devices._COUNT", "import no_such_torch")
    with pytest.raises(ConfigError, match=r"No module named 'no_such_torch'.*neva-batch\[worker\]"):
        count_gpus()


def test_gpus_are_counted_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.evaluate.devices._COUNT", "print('a banner'); print(3)")
    assert count_gpus() == 3
