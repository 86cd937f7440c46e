"""Which way a NeMo checkpoint keeps its weights, and all its tensors by their names there."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from neva.archive import Archive, Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.rank_files import WEIGHTS_FILE, rank_of_folder, read_rank_files
from worker.checkpoint.stored import TiledTensor, uncovered
from worker.checkpoint.torch_dist import METADATA, read_torch_dist
from worker.checkpoint.zarr_dir import read_zarr

_FOLDER = "model_weights/"


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """Whole tensors by raw name.

    Attributes:
        layout: for people, how they lie there.
        by_rank: in a file for each rank, whose shards were put together here.
    """

    tensors: dict[str, TiledTensor]
    layout: str
    by_rank: bool


def read_weights(archive: Archive, gated: bool) -> StoredWeights:
    """Index all weights of a checkpoint, whatever its layout; reads no tensor.

    Args:
        gated: the MLP's first matrix holds gate and up (matters for ranks' shards).

    Raises:
        ConfigError: INVALID_CHECKPOINT, no layout or two, or what the layout's reader finds wrong.
    """
    distributed = {
        name.removeprefix(_FOLDER): segment
        for name, segment in archive.members.items()
        if name.startswith(_FOLDER)
    }
    ranks = _rank_files(archive)
    if bool(distributed) == bool(ranks):
        found = "both" if ranks else "neither"
        raise _invalid(f"{archive.path} has {found} {WEIGHTS_FILE} and {_FOLDER}")
    if ranks:
        stages, size = (max(numbers) + 1 for numbers in zip(*ranks, strict=True))
        words = "single rank" if len(ranks) == 1 else f"ranks' files, TP {size}, PP {stages}"
        tensors = read_rank_files(ranks, str(archive.path), gated)
    else:
        words = _backend(distributed, archive)
        read = read_torch_dist if words == "torch_dist" else read_zarr
        tensors = read(distributed, f"{archive.path}/{_FOLDER}".rstrip("/"))
    holes = sorted(name for name, tensor in tensors.items() if uncovered(tensor))
    if holes:
        raise _invalid(f"{archive.path}: parts of these tensors lie nowhere: {', '.join(holes)}")
    return StoredWeights(tensors, f"{words} ({archive.kind})", bool(ranks))


def _rank_files(archive: Archive) -> dict[tuple[int, int], Segment]:
    """Weights files by (pipeline rank, tensor rank)."""
    ranks: dict[tuple[int, int], Segment] = {}
    for name, segment in archive.members.items():
        folder, _, file = name.rpartition("/")
        if file != WEIGHTS_FILE:
            continue
        rank = (0, 0) if not folder else rank_of_folder(folder)
        if rank is None:
            raise _invalid(f"{archive.path}: {folder} is no rank's folder")
        if rank in ranks:
            raise _invalid(f"{archive.path} has two {WEIGHTS_FILE} of one rank: {name}")
        ranks[rank] = segment
    return ranks


def _backend(files: dict[str, Segment], archive: Archive) -> str:
    if "metadata.json" in files:
        try:
            backend = str(orjson.loads(files["metadata.json"].read())["sharded_backend"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise _invalid(
                f"{archive.path}: {_FOLDER}metadata.json names no sharded_backend"
            ) from error
        if backend not in ("torch_dist", "zarr"):
            raise _invalid(f"{archive.path}: sharded_backend {backend!r} is not known")
        return backend
    return "torch_dist" if METADATA in files else "zarr"


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)
