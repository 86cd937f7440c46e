"""The tensor-parallel decoder: megatron-core's GPTModel with our attention, cache and steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import gelu, relu, silu

from neva.nemo_config import Activation
from neva.rank_split import split_over
from worker.engine.architecture import LanguageShape
from worker.engine.attention import (
    CachedSelfAttention,
    PrefixContext,
    RotaryTable,
    RowContext,
)
from worker.engine.kv_cache import KVCache, SlotPool
from worker.engine.layers import run_layers
from worker.engine.megatron_api import (
    GPTModel,
    IdentityOp,
    TransformerConfig,
    get_gpt_layer_local_spec,
)
from worker.engine.progress import Progress
from worker.engine.row_batch import RowBatch

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


def build_gpt_model(shape: LanguageShape, tensor_parallel_size: int, dtype: torch.dtype) -> Any:
    """This rank's part of the model, on the CPU, its weights uninitialised."""
    split = split_over(shape, tensor_parallel_size)
    normalization = "RMSNorm" if shape.norm == "rmsnorm" else "LayerNorm"
    transformer = TransformerConfig(
        num_layers=shape.num_layers,
        hidden_size=shape.hidden_size,
        ffn_hidden_size=split.ffn_size,
        num_attention_heads=split.num_heads,
        num_query_groups=split.num_kv_heads,
        kv_channels=shape.head_dim,
        normalization=normalization,
        layernorm_epsilon=shape.norm_epsilon,
        gated_linear_unit=shape.gated,
        activation_func=_ACTIVATIONS[shape.activation],
        add_bias_linear=False,
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
        position_embedding_type="none",  # rotary embedding happens in the step context
        share_embeddings_and_output_weights=False,
    )
    for module in model.modules():
        if isinstance(module, torch.nn.RMSNorm | torch.nn.LayerNorm):
            module.to(dtype)  # they ignore params_dtype
    return model.eval().requires_grad_(False)


class LanguageModel:
    """Prefill and decode over a slot cache; logits stay split over the ranks by vocabulary.

    Every method is collective: all ranks call it with equal arguments.
    """

    def __init__(
        self,
        model: Any,
        shape: LanguageShape,
        *,
        max_cache_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self._model = model
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
                num_layers=shape.num_layers,
                num_kv_heads=self.num_kv_heads,
                head_dim=shape.head_dim,
                dtype=dtype,
                device=device,
            )

        self.cache = KVCache(pool(), pool(), max_cache_tokens)

    def embed(self, token_ids: Sequence[int]) -> torch.Tensor:
        """Embeddings (tokens, hidden)."""
        ids = torch.tensor(token_ids, dtype=torch.long, device=self._device)
        embeddings: torch.Tensor = self._model.embedding.word_embeddings(ids)
        return embeddings

    def prefill_prefixes(
        self, embeddings: torch.Tensor, slots: Sequence[int], start: int
    ) -> list[bool]:
        """Compute the next positions of some prefixes into their slots, which must be reserved.

        embeddings: (prefixes, tokens, hidden). Returns for each whether all came out finite, equal
        on all ranks.
        """
        context = PrefixContext(
            self.cache.prefixes, self._rotary, slots, start, embeddings.size(1), self._dtype
        )
        hidden = self._run(embeddings, context)
        # One number a prefix: a sum is finite only if all of it is.
        finite: list[bool] = hidden.sum(dim=(0, 2), dtype=torch.float32).isfinite().tolist()
        return finite

    def prefill_rows(
        self, embeddings: torch.Tensor, batch: RowBatch, last_places: Sequence[int]
    ) -> torch.Tensor:
        """Compute the own part of some prompts into their row slots, which must be reserved.

        embeddings: (rows, tokens, hidden), padded; last_places: where each row's last token is.
        Returns logits on this rank, (rows, vocabulary / ranks).
        """
        hidden = self._run(embeddings, RowContext(self.cache, self._rotary, batch, self._dtype))
        rows = torch.arange(hidden.size(1), device=self._device)
        return self._logits(hidden[torch.tensor(last_places, device=self._device), rows])

    def decode(self, last_ids: Sequence[int], batch: RowBatch) -> torch.Tensor:
        """One token for each row; last_ids: each row's newest token.

        Returns logits on this rank, (rows, vocabulary / ranks).
        """
        context = RowContext(self.cache, self._rotary, batch, self._dtype)
        return self._logits(self._run(self.embed(last_ids)[:, None], context)[0])

    def _run(self, embeddings: torch.Tensor, context: PrefixContext | RowContext) -> torch.Tensor:
        # megatron: (tokens, rows, hidden)
        hidden = embeddings.transpose(0, 1).contiguous()
        return run_layers(self._model.decoder, hidden, context, self._progress)

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden: (rows, hidden), before the final norm."""
        hidden = self._model.decoder.final_layernorm(hidden)
        logits: torch.Tensor = self._model.output_layer(hidden[None])[0][0]
        return logits
