"""Load a Hugging Face LLaVA directory onto this rank's modules, strictly and slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neva.errors import ConfigError
from neva.reasons import Reason
from worker.engine.architecture import LanguageShape, LlavaShape
from worker.engine.hf_llava_layout import canonical_name, expected_shapes
from worker.engine.language_model import padded_vocab_size
from worker.engine.safetensors_dir import SafetensorsDirectory, open_safetensors


class LlavaWeights:
    """A checked directory: every tensor that the architecture has, under its canonical name."""

    def __init__(self, files: SafetensorsDirectory, names: dict[str, str]) -> None:
        """names: name in the file by canonical name."""
        self._files = files
        self._names = names

    def read(
        self, name: str, rows: slice = slice(None), columns: slice | None = None
    ) -> torch.Tensor:
        """A part of a tensor in the file's precision."""
        return self._files.read(self._names[name], rows, columns)


@contextmanager
def open_llava_weights(directory: Path, shape: LlavaShape) -> Iterator[LlavaWeights]:
    """Open the directory and compare its tensors' names and shapes with the architecture's.

    Raises:
        ConfigError: INVALID_CHECKPOINT, names every missing, unexpected and misshapen tensor.
    """
    with open_safetensors(directory) as files:
        names: dict[str, str] = {}
        problems: list[str] = []
        for name in sorted(files.shapes):
            canonical = canonical_name(name)
            if canonical is None:
                continue
            if canonical in names:
                problems.append(f"{name} is the same tensor as {names[canonical]}")
            names[canonical] = name
        expected = expected_shapes(shape)
        if shape.language.ties_embeddings:
            names.pop("lm_head.weight", None)  # a stored copy of the tied embedding is not used
        problems += [f"missing {name}" for name in sorted(expected.keys() - names.keys())]
        problems += [f"unexpected {names[n]}" for n in sorted(names.keys() - expected.keys())]
        problems += [
            f"{names[name]} has shape {found}, expected {expected[name]}"
            for name in sorted(expected.keys() & names.keys())
            if (found := files.shapes[names[name]]) != expected[name]
        ]
        if problems:
            raise ConfigError(
                f"the checkpoint {directory} does not fit its config.json: {'; '.join(problems)}",
                reason=Reason.INVALID_CHECKPOINT,
            )
        yield LlavaWeights(files, names)


@torch.no_grad()
def load_language_model(
    model: Any, weights: LlavaWeights, shape: LanguageShape, rank: int, num_ranks: int
) -> None:
    """Fill this rank's GPTModel, converting to its precision; reads this rank's slices only."""
    parameters = dict(model.named_parameters())
    for name, tensor in _language_model_parts(weights, shape, rank, num_ranks):
        parameter = parameters.pop(name)
        if name.endswith(("word_embeddings.weight", "output_layer.weight")):
            parameter[tensor.size(0) :] = 0  # padding of the vocabulary
            parameter[: tensor.size(0)] = tensor
        else:
            parameter.copy_(tensor)
    if parameters:
        raise RuntimeError(f"parameters without a source: {sorted(parameters)}")


def _language_model_parts(
    weights: LlavaWeights, shape: LanguageShape, rank: int, num_ranks: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """megatron's parameter names with this rank's part of each."""
    head = "language_model.embed_tokens" if shape.ties_embeddings else "lm_head"
    yield (
        "embedding.word_embeddings.weight",
        _vocabulary_part(weights, "language_model.embed_tokens", shape, rank, num_ranks),
    )
    yield "output_layer.weight", _vocabulary_part(weights, head, shape, rank, num_ranks)
    yield "decoder.final_layernorm.weight", weights.read("language_model.norm.weight")
    mlp = _share(shape.ffn_size, rank, num_ranks)
    heads = _share(shape.num_heads * shape.head_dim, rank, num_ranks)
    for layer in range(shape.num_layers):
        source, target = f"language_model.layers.{layer}.", f"decoder.layers.{layer}."
        yield target + "input_layernorm.weight", weights.read(source + "input_layernorm.weight")
        yield (
            target + "pre_mlp_layernorm.weight",
            weights.read(source + "post_attention_layernorm.weight"),
        )
        yield (
            target + "self_attention.linear_qkv.weight",
            _qkv_part(weights, source + "self_attn.", shape, rank, num_ranks),
        )
        yield (
            target + "self_attention.linear_proj.weight",
            weights.read(source + "self_attn.o_proj.weight", columns=heads),
        )
        gate = weights.read(source + "mlp.gate_proj.weight", mlp)
        up = weights.read(source + "mlp.up_proj.weight", mlp)
        yield target + "mlp.linear_fc1.weight", torch.cat([gate, up])
        yield (
            target + "mlp.linear_fc2.weight",
            weights.read(source + "mlp.down_proj.weight", columns=mlp),
        )


def _share(size: int, rank: int, num_ranks: int) -> slice:
    each = size // num_ranks
    return slice(rank * each, (rank + 1) * each)


def _vocabulary_part(
    weights: LlavaWeights, name: str, shape: LanguageShape, rank: int, num_ranks: int
) -> torch.Tensor:
    """This rank's rows of the padded vocabulary as far as the file has them."""
    part = _share(padded_vocab_size(shape.vocab_size, num_ranks), rank, num_ranks)
    last = shape.vocab_size
    return weights.read(name + ".weight", slice(min(part.start, last), min(part.stop, last)))


def _qkv_part(
    weights: LlavaWeights, prefix: str, shape: LanguageShape, rank: int, num_ranks: int
) -> torch.Tensor:
    """megatron's fused projection: for each kv head its queries, its key, its value.

    With fewer kv heads than ranks, ranks that share a kv head each hold a copy of it.
    """
    dim = shape.head_dim
    kv_heads = shape.num_kv_heads
    local_kv_heads = max(kv_heads, num_ranks) // num_ranks
    first_kv_head = rank * kv_heads // num_ranks
    kv_rows = slice(first_kv_head * dim, (first_kv_head + local_kv_heads) * dim)
    query_rows = _share(shape.num_heads * dim, rank, num_ranks)
    query = weights.read(prefix + "q_proj.weight", query_rows)
    key = weights.read(prefix + "k_proj.weight", kv_rows)
    value = weights.read(prefix + "v_proj.weight", kv_rows)
    # each (local kv heads, heads × dim, hidden)
    parts = [t.reshape(local_kv_heads, -1, t.size(-1)) for t in (query, key, value)]
    return torch.cat(parts, dim=1).flatten(0, 1)
