"""Every key that a neva_inference.yaml may have, and what becomes of it. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from neva.spec import Inference

JOB_PATHS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{f"inference.{name}": f"inference.{name}" for name in Inference.model_fields},
        "tensor_model_parallel_size": "model.tensorParallelSize",
        "pipeline_model_parallel_size": "model.pipelineParallelSize",
        "neva_model_file": "model.uri",
        "base_model_file": "model.baseModel",
        "vision_encoder": "model.visionEncoder",
        "trainer.precision": "model.precision",
        "quantization.enable": "model.quantization.enable",
        "quantization.algorithm": "model.quantization.algorithm",
        "quantization.group_size": "model.quantization.groupSize",
        "quantization.num_samples": "model.quantization.calibrationRows",
        "compat.color_order": "model.compat.colorOrder",
        "compat.clean_response": "model.compat.cleanResponse",
        "compat.repetition_penalty": "model.compat.repetitionPenalty",
        "compat.output_format": "model.compat.outputFormat",
        "prompt_file": "input.prompts",
        "fail_on_error": "failure.failOnError",
    }
)
"""Keys that are a job's, by the place they have there under `spec`."""

MACHINE_KEYS: Final = frozenset(
    ("trainer.devices", "trainer.num_nodes", "trainer.accelerator", "output_file")
)

UNREAD: Final[Mapping[str, object]] = MappingProxyType(
    {
        "trainer.logger": False,
        "cluster_type": "BCP",
        "pipeline_model_parallel_split_rank": 0,
        "inference.batch_size": 1,
        "quality": 9,
        "toxicity": 0,
        "humor": 6,
        "creativity": 6,
        "violence": 0,
        "helpfulness": 6,
        "not_appropriate": 0,
        "server": False,
        "port": 5555,
        "web_server": False,
        "share": False,
        "username": "test",
        "password": "test2",
        "web_port": 9889,
    }
)
"""Keys without an effect, with NeMo's defaults: any other value is told to have none."""

_LIGHTNING: Final = "PyTorch Lightning checkpoints are not read; neva_model_file takes a .nemo"
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "checkpoint_dir": _LIGHTNING,
        "checkpoint_name": _LIGHTNING,
        "hparams_file": _LIGHTNING,
        "add_media_sep": "no prompt template has that separator here",
    }
)
"""Keys that must be null or False, and why."""

KNOWN: Final = frozenset((*JOB_PATHS, *MACHINE_KEYS, *UNREAD, *REFUSED))
HIDDEN: Final = frozenset(("inference.batch_size", "quantization.num_samples", "add_media_sep"))
"""Keys that NeMo reads but has in none of its files."""

_CONFIG_KEYS: Final = {path: key for key, path in JOB_PATHS.items()} | {"output.uri": "output_file"}


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a configuration by their dotted keys; lists are values."""
    for name, value in config.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def unknown_key(key: str) -> str:
    """What to say of a key that nothing here knows."""
    if any(known.startswith(f"{key}.") for known in KNOWN):
        return f"{key}: is a block of keys"
    near = nearest_key(key)
    return f"{key}: unknown key{f'; did you mean {near}?' if near else ''}"


def nearest_key(key: str) -> str | None:
    """The known key most like this one: by the whole, or by its last word in another block."""
    near = difflib.get_close_matches(key, KNOWN, n=1, cutoff=0.75)
    if near:
        return near[0]
    last_words = {known.rpartition(".")[2]: known for known in sorted(KNOWN)}
    near = difflib.get_close_matches(key.rpartition(".")[2], last_words, n=1, cutoff=0.75)
    return last_words[near[0]] if near else None


def in_config_words(problem: str) -> str:
    """A job's `path: what is wrong` with the path as a neva_inference.yaml has it."""
    path, colon, words = problem.partition(":")
    path = path.removeprefix("spec.")
    return f"{_CONFIG_KEYS.get(path, path)}{colon}{words}"
