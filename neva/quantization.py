"""Rules of `model.quantization` that need no torch: what is refused, what outputs say about it."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from math import gcd
from typing import Any

from neva.errors import ConfigError
from neva.extras import install_words
from neva.language_sizes import LanguageSizes
from neva.rank_split import split_over
from neva.spec_model import Quantization

_SMALLEST_GROUP = 8


def matrix_inputs(sizes: LanguageSizes, num_ranks: int) -> dict[str, int]:
    """Inputs (K) that one rank has of each kind of matrix, by its name in the engine.

    The first two are split by outputs, so every rank has all inputs; the others by inputs.
    """
    split = split_over(sizes, num_ranks)
    return {
        "linear_qkv": sizes.hidden_size,
        "linear_fc1": sizes.hidden_size,
        "linear_proj": split.local_heads * sizes.head_dim,
        "linear_fc2": split.ffn_size // num_ranks,
    }


def require_whole_groups(
    quantization: Quantization, sizes: LanguageSizes, tensor_parallel_size: int
) -> None:
    """Refuse groups of weights that would lie on two ranks: they would have no common scale.

    Nor may a group reach over a matrix's end, though ranks that fill theirs up have room there:
    the calibration looks at whole matrices.

    Raises:
        ConfigError: naming every layer kind, its K, the ranks and a group size that fits.
    """
    if not quantization.enable or quantization.algorithm != "awq":
        return
    group = quantization.group_size
    splits = {n: matrix_inputs(sizes, n) for n in (tensor_parallel_size, 1)}
    problems = next(filter(None, (list(_problems(splits[n], n, group)) for n in splits)), None)
    if problems:
        fitting = _largest_group([size for inputs in splits.values() for size in inputs.values()])
        advice = (
            f"take {fitting}, the largest that fits"
            if fitting
            else "no group size fits; take fewer ranks"
        )
        raise ConfigError(
            f"model.quantization.groupSize {group} does not divide {', '.join(problems)}; {advice}"
        )


def require_modelopt(quantization: Quantization) -> None:
    """Refuse what nvidia-modelopt does where it is not installed.

    Raises:
        ConfigError: naming the ways out.
    """
    if not quantization.enable or quantization.algorithm == "awq":
        return
    if importlib.util.find_spec("modelopt") is None:
        raise ConfigError(
            f"model.quantization.algorithm {quantization.algorithm} is done by nvidia-modelopt, "
            f"which is not installed: {install_words('modelopt')}; or take algorithm: awq"
        )


def _problems(inputs: dict[str, int], num_ranks: int, group: int) -> Iterator[str]:
    for name, size in inputs.items():
        if size % group:
            where = f"on each of {num_ranks} ranks" if num_ranks > 1 else "in all"
            yield f"the inputs of {name} (K = {size} {where})"


def _largest_group(inputs: Iterable[int]) -> int | None:
    """The largest even divisor of all inputs that is no larger than the usual 128."""
    common = gcd(*inputs)
    fitting = [g for g in range(_SMALLEST_GROUP, 129, 2) if common % g == 0]
    return fitting[-1] if fitting else None


def quantization_record(quantization: Quantization, calibration: bytes | None) -> dict[str, Any]:
    """What every output record says about the quantization; {} where there is none.

    Args:
        calibration: the ledger's file of what was found; None before that, when there are no
            outputs either. Equal digests mean equal weights.
    """
    if not quantization.enable or calibration is None:
        return {}
    record: dict[str, Any] = {"algorithm": quantization.algorithm}
    if quantization.algorithm == "awq":
        record["groupSize"] = quantization.group_size
    return {**record, "calibration": hashlib.sha256(calibration).hexdigest()[:16]}


def quantized_model(name: str, record: dict[str, Any]) -> str:
    """A model's name or digest together with its quantization; the bare one without any."""
    if not record:
        return name
    return f"{name}#{'-'.join(str(value) for value in record.values())}"
