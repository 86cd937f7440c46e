"""Weights in one `model_weights.ckpt` per rank: whole tensors from the ranks' shards.

As NeMo 1 writes them: with pipeline stages each numbers its layers from 0. Embedding, output
layer, qkv and fc1 are split on rows, the projections back to the hidden size on columns, everything
else is replicated. A gated fc1 shard is its gate rows, then its up rows; a qkv shard is whole
groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from neva.archive import Segment
from neva.errors import ConfigError
from neva.reasons import Reason
from worker.checkpoint.stored import TiledTensor, join
from worker.checkpoint.torch_file import read_tensors

WEIGHTS_FILE = "model_weights.ckpt"
_RANK_FOLDER = re.compile(r"(?:mp_rank_(\d+)|tp_rank_(\d+)_pp_rank_(\d+))$")
_LAYER = re.compile(r"(?<=\blayers\.)\d+(?=\.)")

_ROW_SPLIT = re.compile(
    r"(word_embeddings|output_layer|linear_qkv|query_key_value|linear_fc1|dense_h_to_4h(_2)?)"
    r"\.(weight|bias)$"
)
_GATED = re.compile(
    r"((linear_fc1|dense_h_to_4h)\.(weight|bias)|lora_hto4h_adapter\.linear_out\.weight)$"
)
_COLUMN_SPLIT = re.compile(r"(linear_proj|self_attention\.dense|linear_fc2|dense_4h_to_h)\.weight$")
# LoRA: both projections are split, too. The outer one's rows always are; of the inner one the
# rows beside a matrix split on rows, the columns beside one split on columns.
_LORA_ROW_SPLIT = re.compile(
    r"(lora_\w+_adapter\.linear_out|lora_(kqv|hto4h)_adapter\.linear_in)\.weight$"
)
_LORA_COLUMN_SPLIT = re.compile(r"lora_(dense_attention|4htoh)_adapter\.linear_in\.weight$")


def rank_of_folder(name: str) -> tuple[int, int] | None:
    """(pipeline rank, tensor rank) that a folder's name says, or None for another folder."""
    match = _RANK_FOLDER.match(name)
    if match is None:
        return None
    single, tensor, stage = match.groups()
    return (0, int(single)) if single is not None else (int(stage), int(tensor))


def read_rank_files(
    ranks: Mapping[tuple[int, int], Segment], where: str, gated: bool
) -> dict[str, TiledTensor]:
    """Whole tensors by name, layers numbered through.

    Args:
        ranks: weights files by (pipeline rank, tensor rank).
        gated: the MLP's first matrix holds gate and up.

    Raises:
        ConfigError: INVALID_CHECKPOINT, a rank is missing or the ranks don't fit together.
    """
    num_stages = max(stage for stage, _ in ranks) + 1
    size = max(rank for _, rank in ranks) + 1
    missing = [
        f"tensor rank {rank} of pipeline rank {stage}"
        for stage in range(num_stages)
        for rank in range(size)
        if (stage, rank) not in ranks
    ]
    if missing:
        raise _invalid(f"{where} has no weights of {', '.join(missing)}")
    whole: dict[str, TiledTensor] = {}
    problems: list[str] = []
    first_layer = 0
    for stage in range(num_stages):
        shards = [_shard(ranks[stage, rank], where) for rank in range(size)]
        num_layers = 0
        for name in sorted({name for shard in shards for name in shard}):
            lacking = [rank for rank, shard in enumerate(shards) if name not in shard]
            if lacking:
                problems.append(f"{name} is missing on tensor ranks {lacking}")
                continue
            if (found := _LAYER.search(name)) is not None:
                num_layers = max(num_layers, int(found[0]) + 1)
            final = name
            if found is not None:
                layer = int(found[0]) + first_layer
                final = f"{name[: found.start()]}{layer}{name[found.end() :]}"
            if final in whole:  # a tied embedding lies on the first and the last stage
                continue
            try:
                whole[final] = _merge([shard[name] for shard in shards], final, gated)
            except ValueError as error:
                problems.append(str(error))
        first_layer += num_layers
    if problems:
        raise _invalid(f"the ranks' files of {where} don't fit together: {'; '.join(problems)}")
    return whole


def _shard(segment: Segment, where: str) -> dict[str, TiledTensor]:
    tensors = read_tensors(segment, f"{where}/{segment.path.name}")
    return {
        name: TiledTensor.of(tensor, name)
        for name, tensor in tensors.items()
        if "_extra_state" not in name
    }


def _merge(shards: list[TiledTensor], name: str, gated: bool) -> TiledTensor:
    """Raises ValueError: the shards don't fit together."""
    if len(shards) == 1:
        return shards[0]
    if gated and _GATED.search(name):
        halves = [shard.shape[0] // 2 for shard in shards]
        gates = [s.rows_of([(0, half)], name) for s, half in zip(shards, halves, strict=True)]
        ups = [s.rows_of([(half, 2 * half)], name) for s, half in zip(shards, halves, strict=True)]
        return join(gates + ups, 0, name)
    if _ROW_SPLIT.search(name) or _LORA_ROW_SPLIT.search(name):
        return join(shards, 0, name)
    if _COLUMN_SPLIT.search(name) or _LORA_COLUMN_SPLIT.search(name):
        return join(shards, 1, name)
    if any((s.shape, s.dtype) != (shards[0].shape, shards[0].dtype) for s in shards):
        raise ValueError(f"{name} differs in shape between the ranks, but is not split")
    return shards[0]


def _invalid(message: str) -> ConfigError:
    return ConfigError(message, reason=Reason.INVALID_CHECKPOINT)
