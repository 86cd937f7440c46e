"""The tensor-parallel decoder: megatron-core's GPTModel with our attention, cache and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import gelu, relu, silu

from neva.nemo_config import Activation
from neva.rank_split import Stage, split_over
from worker.engine.architecture import LanguageShape
from worker.engine.attention import PrefixContext, RotaryTable, RowContext
from worker.engine.kv_cache import KVCache, SlotPool
from worker.engine.layers import run_layers
from worker.engine.megatron_api import (
    GPTModel,
    IdentityOp,
    TransformerConfig,
    get_gpt_layer_local_spec,
)
from worker.engine.passes import (
    CachedSelfAttention,
    PassContext,
    PrefixSegment,
    PrefixWork,
    RowSegment,
    RowWork,
)
from worker.engine.pipeline import Pipeline, row_parts, token_parts
from worker.engine.progress import Progress

_VOCAB_MULTIPLE = 128  # megatron pads the vocabulary to this times the tensor parallel size


def squared_relu(x: torch.Tensor) -> torch.Tensor:
    """relu(x)², elementwise."""
    return relu(x).square()


_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": silu,
    "gelu": gelu,
    "gelu_tanh": partial(gelu, approximate="tanh"),
    "relu": relu,
    "squared_relu": squared_relu,
}


def padded_vocab_size(vocab_size: int, tensor_parallel_size: int) -> int:
    """Rows of the embedding over all ranks, padding included."""
    multiple = _VOCAB_MULTIPLE * tensor_parallel_size
    return -(-vocab_size // multiple) * multiple


def build_gpt_model(
    shape: LanguageShape, tensor_parallel_size: int, dtype: torch.dtype, stage: Stage
) -> Any:
    """This rank's part of a stage's layers, on the CPU, its weights uninitialised."""
    split = split_over(shape, tensor_parallel_size)
    normalization = "RMSNorm" if shape.norm == "rmsnorm" else "LayerNorm"
    transformer = TransformerConfig(
        num_layers=len(stage.layers),
        hidden_size=shape.hidden_size,
        ffn_hidden_size=split.ffn_size,
        num_attention_heads=split.num_heads,
        num_query_groups=split.num_kv_heads,
        kv_channels=shape.head_dim,
        normalization=normalization,
        layernorm_epsilon=shape.norm_epsilon,
        gated_linear_unit=shape.gated,
        activation_func=_ACTIVATIONS[shape.activation],
        # megatron's two switches; a bias that the model has not is zeros.
        add_bias_linear=shape.output_bias or shape.mlp_bias,
        add_qkv_bias=shape.qkv_bias,
        attention_dropout=0.0,
        hidden_dropout=0.0,
        tensor_model_parallel_size=tensor_parallel_size,
        params_dtype=dtype,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        # The default initialisation allocates on CUDA and wants CUDA's random state tracker.
        use_cpu_initialization=True,
        perform_initialization=False,
        # Fused kernels are torch.compile'd or CUDA only.
        bias_activation_fusion=False,
        bias_dropout_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
        cuda_graph_scope=[],  # its default warns that it is deprecated
    )
    spec = get_gpt_layer_local_spec(normalization=normalization)
    attention = spec.submodules.self_attention
    attention.module = CachedSelfAttention
    attention.submodules.core_attention = IdentityOp  # ours takes its place
    model = GPTModel(
        transformer,
        spec,
        vocab_size=padded_vocab_size(shape.vocab_size, tensor_parallel_size),
        max_sequence_length=shape.context_tokens,
        pre_process=stage.is_first,
        post_process=stage.is_last,
        position_embedding_type="none",  # rotary embedding happens in the step context
        share_embeddings_and_output_weights=False,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm | torch.nn.LayerNorm):
            module.to(dtype)  # they ignore params_dtype
    return model.eval().requires_grad_(False)


class LanguageModel:
    """Prefill and decode over a slot cache; logits stay split over the ranks by vocabulary.

    Every method is collective: all ranks call it with equal arguments. Each runs the layers of its
    pipeline stage; logits are the last stage's, elsewhere an empty meta tensor.
    """

    def __init__(
        self,
        model: Any,
        shape: LanguageShape,
        pipeline: Pipeline,
        *,
        max_cache_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._model = model
        self.pipeline = pipeline
        self._hidden_size = shape.hidden_size
        self._dtype = dtype
        self._device = device
        self._progress = progress
        self.vocab_size: int = shape.vocab_size
        self._rotary = RotaryTable(
            torch.tensor(shape.inverse_frequencies, device=device),
            shape.rotary_scaling,
            shape.context_tokens,
        )
        first_attention = model.decoder.layers[0].self_attention
        self.num_kv_heads: int = first_attention.num_query_groups_per_partition
        self.head_dim = shape.head_dim

        def pool() -> SlotPool:
            return SlotPool(
                num_layers=len(model.decoder.layers),
                num_kv_heads=self.num_kv_heads,
                head_dim=shape.head_dim,
                dtype=dtype,
                device=device,
            )

        self.cache = KVCache(pool(), pool(), max_cache_tokens)

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Embeddings (tokens, hidden); behind the first stage only their shape (device meta)."""
        if not self.pipeline.is_first:
            return torch.empty(
                (len(token_ids), self._hidden_size), dtype=self._dtype, device="meta"
            )
        ids = torch.tensor(token_ids, dtype=torch.long, device=self._device)
        embeddings: torch.Tensor = self._model.embedding.word_embeddings(ids)
        return embeddings

    def compute(
        self, prefixes: Sequence[PrefixWork], rows: Sequence[RowWork]
    ) -> tuple[list[bool], torch.Tensor]:
        """Compute into the slots of prefixes and rows. A row may need a prefix of the same call.

        Returns for each prefix whether all came out finite, equal on all ranks, and of each row
        the logits on this rank, (rows, vocabulary / ranks). With several stages every segment is a
        pass of its own, so that the stages work at the same time.
        """
        # One number a prefix: a sum is finite only if all of it is.
        sums = torch.zeros(sum(len(work.slots) for work in prefixes), device=self._device)
        segments: list[PrefixSegment | RowSegment] = [
            *self._prefix_segments(prefixes, sums),
            *self._row_segments(rows),
        ]
        passes = [segments] if self.pipeline.num_stages == 1 else [[s] for s in segments]
        last_layer = len(self._model.decoder.layers) - 1 if self.pipeline.is_last else None
        wanted = []
        for segments_together in passes:
            context = PassContext(segments_together, last_layer, self._device)
            hidden = self._run(context)
            if context.num_wanted:
                wanted.append(hidden)
        if not wanted:
            logits = torch.empty((0, 0), device=self._device)
        elif not self.pipeline.is_last:
            logits = torch.empty((sum(len(work.last_places) for work in rows), 0), device="meta")
        else:
            logits = self._logits(torch.cat(wanted) if len(wanted) > 1 else wanted[0])
        # Each rank has seen its own heads only.
        broken = self.pipeline.tell_any(~sums.isfinite()) if prefixes else []
        return [not flag for flag in broken], logits

    def _prefix_segments(
        self, prefixes: Sequence[PrefixWork], sums: torch.Tensor
    ) -> Iterator[PrefixSegment]:
        num_stages = self.pipeline.num_stages
        num_before = 0
        for work in prefixes:
            num_rows, num_tokens, _ = work.embeddings.shape
            its_sums = sums[num_before : num_before + num_rows]
            num_before += num_rows
            for rows in row_parts(num_rows, num_tokens, num_stages):
                for tokens in token_parts(num_tokens, num_stages):
                    context = PrefixContext(
                        self.cache.prefixes,
                        self._rotary,
                        work.slots[rows],
                        work.start + tokens.start,
                        tokens.stop - tokens.start,
                        self._dtype,
                    )
                    yield PrefixSegment(work.embeddings[rows, tokens], context, its_sums[rows])

    def _row_segments(self, rows: Sequence[RowWork]) -> Iterator[RowSegment]:
        for work in rows:
            num_rows, num_tokens, _ = work.embeddings.shape
            for part in row_parts(num_rows, num_tokens, self.pipeline.num_stages):
                context = RowContext(self.cache, self._rotary, work.batch.part(part), self._dtype)
                yield RowSegment(work.embeddings[part], context, work.last_places[part])

    def _run(self, context: PassContext) -> torch.Tensor:
        if self.pipeline.is_first:
            hidden = context.hidden()
        else:
            hidden = self.pipeline.receive((context.num_tokens, 1, self._hidden_size))
        hidden = run_layers(self._model.decoder, hidden, context, self._progress)
        if not self.pipeline.is_last:
            self.pipeline.send(hidden)
        return hidden

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (rows, 1, hidden), before the final norm. Only on the last stage."""
        hidden = self._model.decoder.final_layernorm(hidden)
        logits: torch.Tensor = self._model.output_layer(hidden)[0][:, 0]
        return logits
