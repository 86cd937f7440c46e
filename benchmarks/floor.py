"""The time that the necessary matrix multiplications of a workload take, and nothing else.

Each video goes through tower and projector once; each distinct prefix (what stands before the
question, media included) and each row's remainder go through the language model once; then one
token a row and step, all rows together. The multiplications run on the engine's own weights, layer
after layer, so that decoding reads every weight from memory as it must. Attention's two products
are timed as PyTorch's fused attention, which leaves out the masked half. Behind the last layer only
each row's last token is needed, so of a prompt that layer needs keys and values alone: its fused
projection counts, its attention and its other matrices do not.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch
from torch.nn.functional import linear, scaled_dot_product_attention

from benchmarks.workloads import Workload
from worker.engine.engine import Engine
from worker.engine.protocol import GenerateRequest

_REPEATS = 3


def floor_s(engine: Engine, workload: Workload) -> float:
    """CPU seconds; the engine has one rank and its model is on the CPU in fp32."""
    language, vision = engine.language_model, engine.inputs.vision
    prefixes = Counter((row.media, row.before_ids) for row in workload.requests)
    shared = any(count > 1 for count in prefixes.values())
    total_s = 0.0
    first = workload.requests[0]
    if first.media is not None:
        total_s += workload.num_videos * _vision_s(vision, first.media.shape[0])
    weights = _layer_weights(language._model)
    # (tokens computed, tokens before them) of each piece of prompt that has to be computed.
    pieces: Counter[tuple[int, int]] = Counter()
    if shared:
        num_before = first.num_prompt_tokens - len(first.after_ids)
        pieces[num_before, 0] = len(prefixes)
        pieces.update((len(row.after_ids), num_before) for row in workload.requests)
    else:
        pieces.update((row.num_prompt_tokens, 0) for row in workload.requests)
    total_s += sum(count * _prefill_s(weights, *piece, engine) for piece, count in pieces.items())
    return total_s + _decode_s(weights, workload.requests, len(prefixes), engine)


def _decode_s(
    weights: list[list[torch.Tensor]],
    rows: tuple[GenerateRequest, ...],
    num_prefixes: int,
    engine: Engine,
) -> float:
    """All steps after the first token, whose logits come from the prefill."""
    language = engine.language_model
    num_rows = min(len(rows), engine.scheduler.max_batch_rows)
    num_tokens = rows[0].num_prompt_tokens + rows[0].sampling.max_new_tokens // 2
    heads, dim = language.num_kv_heads, language.head_dim
    # The rows of one video read its keys and values once: they are one another's query tokens.
    rows_per_prefix = max(1, len(rows) // num_prefixes)
    query = torch.randn(num_rows // rows_per_prefix, heads, rows_per_prefix, dim)
    keys = torch.randn(num_rows // rows_per_prefix, heads, num_tokens, dim)
    attention_s = _timed(lambda: scaled_dot_product_attention(query, keys, keys))
    linear_s = _timed(lambda: _all_linears(weights, num_rows))
    output = language._model.output_layer.weight
    output_s = _timed(lambda: linear(torch.zeros(num_rows, output.size(1)), output))
    num_batches = len(rows) / num_rows
    num_steps = num_batches * (rows[0].sampling.max_new_tokens - 1)
    step_s = linear_s + len(weights) * attention_s + output_s
    return num_steps * step_s + num_batches * output_s


def _prefill_s(
    weights: list[list[torch.Tensor]], num_tokens: int, num_before: int, engine: Engine
) -> float:
    heads, dim = engine.language_model.num_kv_heads, engine.language_model.head_dim
    query = torch.randn(1, heads, num_tokens, dim)
    keys = torch.randn(1, heads, num_before + num_tokens, dim)

    def attend() -> None:
        scaled_dot_product_attention(query, keys, keys, is_causal=num_before == 0)

    needed = [*weights[:-1], weights[-1][:1]]
    return _timed(lambda: _all_linears(needed, num_tokens)) + (len(weights) - 1) * _timed(attend)


def _vision_s(vision: Any, num_frames: int) -> float:
    shape = vision.shape
    num_tokens = (shape.image_size // shape.patch_size) ** 2 + 1
    layers = [
        [
            torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]),
            attention.out_proj.weight,
            layer.mlp.fc1.weight,
            layer.mlp.fc2.weight,
        ]
        for layer in vision._tower.encoder.layers
        for attention in [layer.self_attn]
    ]
    heads = vision._tower.config.num_attention_heads
    states = torch.randn(num_frames, heads, num_tokens, shape.hidden_size // heads)
    ends = [
        torch.randn(shape.hidden_size, shape.num_channels * shape.patch_size**2),
        vision._projector.linear_1.weight,
        vision._projector.linear_2.weight,
    ]
    return (
        _timed(lambda: _all_linears(layers, num_frames * num_tokens))
        + len(layers) * _timed(lambda: scaled_dot_product_attention(states, states, states))
        + _timed(lambda: _all_linears([ends], num_frames * (num_tokens - 1)))
    )


def _layer_weights(model: Any) -> list[list[torch.Tensor]]:
    return [
        [
            layer.self_attention.linear_qkv.weight,
            layer.self_attention.linear_proj.weight,
            layer.mlp.linear_fc1.weight,
            layer.mlp.linear_fc2.weight,
        ]
        for layer in model.decoder.layers
    ]


def _all_linears(layers: Iterable[list[torch.Tensor]], num_tokens: int) -> None:
    for weights in layers:
        for weight in weights:
            linear(torch.zeros(num_tokens, weight.size(1)), weight)


@torch.inference_mode()
def _timed(work: Callable[[], object]) -> float:
    work()
    times = []
    for _ in range(_REPEATS):
        start_s = time.process_time()
        work()
        times.append(time.process_time() - start_s)
    return median(times)
