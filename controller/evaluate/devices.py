"""On which devices a configuration's ranks run. The decision is pure; counting GPUs is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from neva.errors import ConfigError
from neva.extras import install_words

_GPU, _CPU, _AUTO = "gpu", "cpu", "auto"
_ACCELERATORS = {"gpu": _GPU, "cuda": _GPU, "cpu": _CPU, "auto": _AUTO}
_COUNT = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True, slots=True)
class Devices:
    """What `trainer` asks for.

    Attributes:
        num_ranks: tensor x pipeline parallel size.
    """

    accelerator: str
    num_ranks: int


def devices_of(trainer: Mapping[str, Any], tensor: int, pipeline: int) -> Devices:
    """The devices of a model in so many tensor and pipeline parallel parts.

    Raises:
        ConfigError: they can't be had in any place, or don't fit the ranks.
    """
    accelerator = _ACCELERATORS.get(str(trainer.get("accelerator", _GPU)).lower())
    if accelerator is None:
        raise ConfigError(f"trainer.accelerator is {trainer['accelerator']!r}: gpu, cpu or auto")
    num_nodes = trainer.get("num_nodes", 1)
    if num_nodes != 1:
        raise ConfigError(
            f"trainer.num_nodes is {num_nodes!r}: all ranks of a model are on one machine, so it "
            "must be 1"
        )
    num_ranks = tensor * pipeline
    asked = trainer.get("devices", "auto")
    if asked not in ("auto", -1) and (type(asked) is not int or asked < 1):
        raise ConfigError(
            f"trainer.devices is {asked!r}: a number of devices, or auto; CUDA_VISIBLE_DEVICES "
            "chooses which"
        )
    if asked not in ("auto", -1, num_ranks):
        raise ConfigError(
            f"trainer.devices is {asked}, but tensor_model_parallel_size x "
            f"pipeline_model_parallel_size is {tensor} x {pipeline}: they must be equal"
        )
    return Devices(accelerator, num_ranks)


def runs_on_cpu(devices: Devices, count_gpus: Callable[[], int]) -> bool:
    """Whether the ranks run on this machine's CPU, each as a process; else on a GPU each.

    Raises:
        ConfigError: there are too few GPUs.
    """
    if devices.accelerator == _CPU:
        return True
    num_gpus = count_gpus()
    if devices.accelerator == _AUTO and num_gpus == 0:
        return True
    if num_gpus == 0:
        raise ConfigError(
            f"trainer.devices={devices.num_ranks}: there is no GPU on this machine; "
            f"trainer.accelerator=cpu runs the {_ranks(devices.num_ranks)} on its CPU"
        )
    if num_gpus < devices.num_ranks:
        raise ConfigError(
            f"trainer.devices={devices.num_ranks}: this machine has {num_gpus}"
            f" GPU{'s' if num_gpus > 1 else ''}; lower trainer.devices and the parallel size with "
            "it, or take trainer.accelerator=cpu"
        )
    return False


def _ranks(number: int) -> str:
    return "rank" if number == 1 else f"{number} ranks"


def count_gpus() -> int:
    """GPUs that the worker would see. Asks PyTorch in a process of its own: it takes seconds.

    Raises:
        ConfigError: PyTorch is not installed.
    """
    command = [sys.executable, "-c", _COUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    words = done.stdout.split()
    if done.returncode != 0 or not words:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        raise ConfigError(
            f"PyTorch can't be asked for GPUs ({lines[-1]}); {install_words('worker')}"
        )
    return int(words[-1])
