"""Every environment variable the processes read, with its default and unit."""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from neva.errors import ConfigError


def _default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "neva-batch"


class Settings(BaseSettings):
    """Read from `NEVA_*`. What answers depend on is in the job spec, never here."""

    model_config = SettingsConfigDict(env_prefix="NEVA_", frozen=True)

    redis_url: str | None = Field(None, description="Broker; none starts an embedded one.")
    lease_ttl_s: float = Field(6.0, gt=0, description="A silent worker loses its shard after it.")
    heartbeat_s: float = Field(1.0, gt=0, description="Interval of a lease's renewal.")
    flush_rows: int = Field(64, ge=1, description="Most finished rows of a part.")
    flush_interval_s: float = Field(2.0, gt=0, description="Longest wait of a finished row.")
    shards_in_flight: int = Field(2, ge=1, description="Shards a worker handles at a time.")
    rows_in_flight: int = Field(64, ge=1, description="Rows of one shard at the engine at a time.")
    max_batch_rows: int = Field(128, ge=1, description="Rows the engine decodes together.")
    reconcile_interval_s: float = Field(0.5, gt=0, description="Pause of the controller's loop.")
    media_lookups: int = Field(32, ge=1, description="Media looked up at a time in validation.")
    decode_timeout_s: float = Field(
        60.0, gt=0, description="A decoder that works on one media file for so long is killed."
    )
    decode_memory_bytes: int = Field(
        4 << 30, ge=512 << 20, description="Memory that decoding one media file may take."
    )
    decoders: int | None = Field(
        None,
        ge=1,
        description="Media files that each shard in flight decodes at a time; none takes a share of"
        " the cores, four at most.",
    )
    media_ahead: int = Field(
        4, ge=1, description="Media of a shard that are made ready before their rows' turn."
    )
    media_shared_bytes: int = Field(
        128 << 20, ge=0, description="Prepared media that a worker keeps for its other shards."
    )
    media_max_bytes: int = Field(16 << 30, ge=1, description="Largest media file.")
    tar_max_bytes: int = Field(
        64 << 30,
        ge=1,
        description="Largest content of a .tar.gz, unpacked in the cache.",
    )
    media_max_pixels: int = Field(100_000_000, ge=1, description="Most pixels of one frame.")
    media_max_duration_s: float = Field(14_400.0, gt=0, description="Longest video.")
    media_max_frames: int = Field(1_000_000, ge=1, description="Most frames of a video.")
    stall_s: float = Field(600.0, gt=0, description="A child stuck so long is killed.")
    drain_s: float = Field(20.0, gt=0, description="Time a stopping worker has to flush.")
    engine_start_s: float = Field(
        1800.0, gt=0, description="Longest load of a checkpoint, or calibration of one layer."
    )
    engine_hang_s: float = Field(
        120.0,
        gt=0,
        description="Longest time of one layer, one vision pass or the other pipeline stages' part"
        " of one pass; then it is restarted.",
    )
    kv_cache_bytes: int | None = Field(
        None, gt=0, description="Keys and values on each rank; none takes a share of what is free."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the ranks run.")
    cache_dir: Path = Field(default_factory=_default_cache_dir, description="Downloaded models.")
    scratch_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()), description="Sockets, media, pixels."
    )
    debug: bool = Field(False, description="Errors with their traceback, as by `neva --debug`.")
    log_level: str = Field("INFO", description="Level of the logs.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Of the logs; auto is console on a terminal, else JSON."
    )
    tracing: bool = Field(
        False, description="Send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT."
    )
    job: str | None = Field(None, description="The job as JSON; a cluster's pods get it so.")
    idle_exit_s: float = Field(
        10.0, gt=0, description="A worker started with --until-done ends when idle for so long."
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="Port of a pod's /metrics; none serves no metrics."
    )
    metrics_dir: Path | None = Field(
        None, description="Where a process leaves its counts; set by the one that serves them."
    )
    termination_log: Path | None = Field(
        None, description="Where a pod's process says why it ends; none is /dev/termination-log."
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigError: a variable's value is none; all such variables are named, without their values.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = (f"NEVA_{str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors())
        raise ConfigError("; ".join(wrong)) from None
