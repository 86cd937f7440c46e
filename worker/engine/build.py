"""Put one rank's engine together from a model directory."""

from __future__ import annotations

from dataclasses import dataclass

from neva.rank_split import stage_of
from worker.checkpoint.open import open_checkpoint
from worker.engine.admission import ModelLimits
from worker.engine.device import DTYPE_OF_PRECISION
from worker.engine.distributed import Ranks
from worker.engine.engine import Engine
from worker.engine.feature_cache import FeatureCache
from worker.engine.language_model import LanguageModel, build_gpt_model
from worker.engine.language_weights import load_language_model
from worker.engine.launch import EngineConfig
from worker.engine.memory import cache_tokens
from worker.engine.pipeline import Pipeline
from worker.engine.pipeline_sampler import PipelineSampler, Sampler
from worker.engine.prefix_inputs import PrefixInputs
from worker.engine.progress import Progress
from worker.engine.quantization.layers import quantize_layers
from worker.engine.sampler import VocabParallelSampler
from worker.engine.scheduler import PrefillLimits, Scheduler
from worker.engine.vision import build_vision_encoder


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    engine: Engine
    limits: ModelLimits


def load_engine(
    config: EngineConfig, ranks: Ranks, progress: Progress | None = None
) -> LoadedEngine:
    """Read the model onto this rank.

    progress: counts what the engine computes.

    Raises:
        ConfigError: the checkpoint is incomplete, inconsistent or of a kind that is not supported.
    """
    progress = progress or Progress()
    profile = config.model.profile()
    tokenizer = config.model.tokenizer()
    dtype = DTYPE_OF_PRECISION[config.precision]
    with open_checkpoint(config.model) as checkpoint:
        shape, weights = checkpoint.shape, checkpoint.weights
        stage = stage_of(shape.language.num_layers, ranks.stage, ranks.num_stages)
        gpt = build_gpt_model(shape.language, ranks.tensor_size, dtype, stage)
        load_language_model(
            gpt, weights, shape.language, ranks.tensor_rank, ranks.tensor_size, stage
        )
        if config.quantization is not None:
            quantize_layers(gpt, config.quantization, shape.language, ranks, stage)
        vision = build_vision_encoder(shape, weights, dtype, ranks, progress)
    gpt = gpt.to(ranks.device)
    prefill = PrefillLimits(
        step_tokens=config.max_prefill_tokens,
        piece_tokens=config.prefill_piece_tokens,
        cache_tokens=cache_tokens(shape.language, dtype, ranks, config.kv_cache_bytes),
    )
    pipeline = Pipeline(ranks, dtype)
    language_model = LanguageModel(
        gpt,
        shape.language,
        pipeline,
        max_cache_tokens=prefill.cache_tokens,
        dtype=dtype,
        device=ranks.device,
        progress=progress,
    )
    features = FeatureCache(config.vision_cache_embeddings)
    num_ids = min(tokenizer.vocab_size, shape.language.vocab_size)
    sampler: Sampler = VocabParallelSampler(num_ids, profile.eos_token_ids, ranks)
    if ranks.num_stages > 1:
        sampler = PipelineSampler(sampler, num_ids, pipeline)
    engine = Engine(
        language_model=language_model,
        inputs=PrefixInputs(language_model, vision, features, config.max_prefill_tokens),
        scheduler=Scheduler(config.max_batch_rows, prefill),
        sampler=sampler,
        tokenizer=tokenizer,
        eos_ids=profile.eos_token_ids,
    )
    limits = ModelLimits(
        context_tokens=shape.language.context_tokens,
        vocab_size=shape.language.vocab_size,
        tokens_per_frame=shape.vision.tokens_per_frame,
        num_channels=shape.vision.num_channels,
        image_size=shape.vision.image_size,
        piece_tokens=prefill.piece_tokens,
        cache_tokens=prefill.cache_tokens,
    )
    return LoadedEngine(engine, limits)
