"""What worker pods count: rows, shards, where the time went, and what the engine says of itself."""

from __future__ import annotations

from typing import Final

from neva import reason_help, stages
from neva.metrics.base import Exporter, counter, gauge
from neva.reasons import Reason

_WORKER: Final = frozenset({Exporter.WORKER})

# Reasons that occur here: from the start, so that the first count of each is an increase. A worker
# has some thirty series by them.
_ROW_FAILED: Final = (
    *reason_help.ROWS,
    Reason.MEDIA_NOT_FOUND,  # it was there when the rows were checked
    Reason.MEDIA_TOKEN_CONFLICT,
    Reason.CONTEXT_OVERFLOW,
)
_ROW_RETRIED: Final = (
    Reason.ENGINE_CRASHED,
    Reason.MEDIA_UNREADABLE,
)
_SHARD_LEFT: Final = (
    Reason.STORE_UNAVAILABLE,
    Reason.STORE_DENIED,
    Reason.OBJECT_NOT_FOUND,
    Reason.BROKER_UNAVAILABLE,
    Reason.ENGINE_CRASHED,
    Reason.LEDGER_CORRUPT,
    Reason.INVALID_CONFIG,
    Reason.INTERNAL_ERROR,
)
_ENGINE_DIED: Final = (
    Reason.ENGINE_CRASHED,
    Reason.OUT_OF_MEMORY,
    Reason.INVALID_CONFIG,
    Reason.INVALID_CHECKPOINT,
    Reason.UNSUPPORTED_MODEL,
    Reason.INTERNAL_ERROR,
)

# Counted where rows are answered.
ROWS_ANSWERED: Final = counter("neva_rows_answered_total", "rows", "Rows with an answer.", _WORKER)
ROWS_FAILED: Final = counter(
    "neva_rows_failed_total", "rows", "Rows given up, by reason.", _WORKER, {"reason": _ROW_FAILED}
)
ROW_RETRIES: Final = counter(
    "neva_row_retries_total",
    "rows",
    "Rows asked again because the engine died or could not read them, by reason.",
    _WORKER,
    {"reason": _ROW_RETRIED},
)
PROMPT_TOKENS: Final = counter(
    "neva_prompt_tokens_total", "tokens", "Prompt tokens of answered rows, media included.", _WORKER
)
ANSWER_TOKENS: Final = counter(
    "neva_answer_tokens_total", "tokens", "Generated tokens of answered rows.", _WORKER
)
SHARDS: Final = counter(
    "neva_shards_total",
    "shards",
    "Messages worked on, by what became of them: `lost` went to a later attempt, `left` failed and"
    " comes again.",
    _WORKER,
    {"outcome": ("committed", "nothing_to_do", "lost", "drained", "left")},
)
SHARDS_LEFT: Final = counter(
    "neva_shards_left_total",
    "shards",
    "Shards left to be tried again, by reason.",
    _WORKER,
    {"reason": _SHARD_LEFT},
)
SHARDS_IN_WORK: Final = gauge(
    "neva_shards_in_work", "shards", "Shards that this worker holds now.", _WORKER
)
STAGE_SECONDS: Final = counter(
    "neva_stage_seconds_total",
    "seconds",
    "Where the time went. `engine` and the waits divide the time of the shards in work; the others"
    " run beside them, in several threads.",
    _WORKER,
    {"stage": stages.STAGES},
)
MEDIA: Final = counter(
    "neva_media_total",
    "files",
    "Media made ready: `prepared` by decoding, `shared` from another shard of this worker.",
    _WORKER,
    {"source": ("prepared", "shared")},
)

# The engine, asked at each scrape; its sums begin anew with each start.
ENGINE_STARTS: Final = counter("neva_engine_starts_total", "starts", "Starts.", _WORKER)
ENGINE_DEATHS: Final = counter(
    "neva_engine_deaths_total",
    "deaths",
    "Unwanted ends, by reason.",
    _WORKER,
    {"reason": _ENGINE_DIED},
)
CONSUMER_STARTS: Final = counter(
    "neva_consumer_starts_total", "starts", "Starts of the Celery process.", _WORKER
)
ENGINE_READY: Final = gauge(
    "neva_engine_ready",
    "1 or 0",
    "The engine answers. While it is 0 the gauges below are gone; the counters stay as they were.",
    _WORKER,
)
ENGINE_ACTIVE_ROWS: Final = gauge(
    "neva_engine_active_rows", "rows", "Rows that get a token in each step now.", _WORKER
)
ENGINE_WAITING_ROWS: Final = gauge(
    "neva_engine_waiting_rows", "rows", "Rows at the engine that have no token yet.", _WORKER
)
ENGINE_MAX_ROWS: Final = gauge(
    "neva_engine_max_batch_rows", "rows", "Most rows in one step.", _WORKER
)
ENGINE_STEPS: Final = counter("neva_engine_steps_total", "steps", "Steps.", _WORKER)
ENGINE_TOKENS: Final = counter(
    "neva_engine_generated_tokens_total",
    "tokens",
    "Tokens chosen, those of rows that were lost later included. By steps: the mean batch size.",
    _WORKER,
)
ENGINE_PREFILLED: Final = counter(
    "neva_engine_prefilled_tokens_total",
    "tokens",
    "Prompt positions computed, padding included.",
    _WORKER,
)
ENGINE_VISION_PASSES: Final = counter(
    "neva_engine_vision_passes_total", "passes", "Videos and images through the tower.", _WORKER
)
ENGINE_FEATURES: Final = counter(
    "neva_engine_vision_cache_requests_total",
    "requests",
    "Looks for a video's features in the vision cache.",
    _WORKER,
    {"result": ("hit", "miss")},
)
ENGINE_PREFIXES: Final = counter(
    "neva_engine_prefix_requests_total",
    "rows",
    "Rows admitted, by whether their shared beginning was there already.",
    _WORKER,
    {"result": ("hit", "miss")},
)
ENGINE_CACHE_BYTES: Final = gauge(
    "neva_engine_kv_cache_bytes", "bytes", "Memory of keys and values on rank 0.", _WORKER
)
ENGINE_CACHE_RATIO: Final = gauge(
    "neva_engine_kv_cache_used_ratio",
    "0 to 1",
    "Share of the keys' and values' budget that admitted rows and their prefixes need.",
    _WORKER,
)
ENGINE_SECONDS: Final = counter(
    "neva_engine_seconds_total",
    "seconds",
    "Time of the step loop: `busy` computing, `idle` without a row.",
    _WORKER,
    {"state": ("busy", "idle")},
)
