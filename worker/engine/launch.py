"""Start the engine's rank processes, watch them, end them. Used by the supervisor; no torch here.

The ranks meet through a file in a directory of this start (FileStore), so no port is fixed and two
engines on one machine never meet. Each rank leaves the reason of its end in that directory.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, ClassVar, Literal, NamedTuple

import orjson
from pydantic import TypeAdapter

from neva.errors import ConfigError, NevaError
from neva.local_model import LocalModel
from neva.reasons import Reason
from worker.engine.client import EngineClient, EngineLost

Precision = Literal["fp32", "bf16", "fp16"]
DeviceKind = Literal["auto", "cpu", "cuda"]

EXIT_CONFIG = 64  # wrong configuration or checkpoint: starting again gives the same
EXIT_INTERNAL = 70  # this rank failed
EXIT_PEER_LOST = 75  # another rank failed first

_MAX_SOCKET_PATH_BYTES = 103  # sun_path of macOS less the final zero; Linux has 107
_POLL_INTERVAL_S = 0.1
TERM_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """How the language model's matrices are quantized.

    Attributes:
        group_size: of awq.
        calibration_file: see `worker.engine.quantization.table`.
    """

    algorithm: Literal["awq", "int8_sq", "fp8"]
    group_size: int
    calibration_file: Path


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Everything the ranks need to know.

    Attributes:
        model_dir: the model directory, or a .nemo file that is a plain tar.
        tensor_parallel_size, pipeline_parallel_size: ranks that share each layer; stages of layers.
        base_model, vision_encoder: the other parts of a NeMo checkpoint, see `LocalModel`.
        socket_path: where clients connect; kept over restarts.
        scratch_dir: private to one start: rendezvous file, the ranks' configuration, error files.
        max_batch_rows: rows decoded together at most.
        max_prefill_tokens: prompt tokens computed between two tokens of the active rows, and
            visual tokens of one pass of the tower (one video may exceed it).
        prefill_piece_tokens: tokens of one prompt computed in one pass at most; an eighth more
            where that is the rest of it.
        vision_cache_embeddings: media embeddings kept for later rows of the same video.
        kv_cache_bytes: memory for keys and values on each rank; None takes a share of what is free
            after loading.
        log_path: where the ranks' stdout and stderr go; inherited when None.
        quantization: of the language model's matrices; None: they stay as they are.
    """

    model_dir: Path
    tensor_parallel_size: int
    precision: Precision
    socket_path: Path
    scratch_dir: Path
    max_batch_rows: int = 128
    device: DeviceKind = "auto"
    max_prefill_tokens: int = 2048
    prefill_piece_tokens: int = 2048
    vision_cache_embeddings: int = 65536
    kv_cache_bytes: int | None = None
    log_path: Path | None = None
    base_model: Path | None = None
    vision_encoder: Path | None = None
    pipeline_parallel_size: int = 1
    quantization: QuantizationConfig | None = None

    @property
    def num_ranks(self) -> int:
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def model(self) -> LocalModel:
        return LocalModel(self.model_dir, self.base_model, self.vision_encoder)


@dataclass(frozen=True, slots=True)
class RankConfig:
    """What `python -m worker.engine.rank` reads from its file."""

    engine: EngineConfig
    generation: str
    parent_pid: int


@dataclass(frozen=True, slots=True)
class RankError:
    """A rank's last words."""

    reason: Reason
    message: str
    retryable: bool


class DeadRank(NamedTuple):
    rank: int
    exit_code: int  # negative: killed by that signal


_rank_config: TypeAdapter[RankConfig] = TypeAdapter(RankConfig)
_rank_error: TypeAdapter[RankError] = TypeAdapter(RankError)


def read_rank_config(path: Path) -> RankConfig:
    """The configuration that `EngineProcesses.start` wrote."""
    return _rank_config.validate_json(path.read_bytes())


def error_file(scratch_dir: Path, rank: int) -> Path:
    """Where a rank writes its last words."""
    return scratch_dir / f"rank-{rank}.error.json"


class EngineProcesses:
    """The rank processes of one engine start. They die with the process that started them."""

    rank_module: ClassVar[str] = "worker.engine.rank"  # tests put another program here

    def __init__(
        self, config: EngineConfig, generation: str, processes: list[subprocess.Popen[bytes]]
    ) -> None:
        self.config = config
        self.generation = generation
        self._processes = processes

    @classmethod
    def start(cls, config: EngineConfig) -> EngineProcesses:
        """Start the ranks and return at once; `wait_ready` says when they answer.

        Call it from a thread that lives as long as the engine: Linux ties the ranks' lives to it.

        Raises:
            ConfigError: the configuration can't be started at all.
        """
        _check(config)
        config.scratch_dir.mkdir(parents=True, exist_ok=True)
        config.socket_path.parent.mkdir(parents=True, exist_ok=True)
        # A directory of this start alone: leftovers of an earlier one can't be met by accident.
        generation = str(uuid.uuid4())
        scratch_dir = config.scratch_dir / generation
        scratch_dir.mkdir()
        config = replace(config, scratch_dir=scratch_dir)
        config_file = scratch_dir / "config.json"
        rank_config = RankConfig(config, generation, os.getpid())
        config_file.write_bytes(orjson.dumps(rank_config, default=str))
        environment = _rank_environment(config.num_ranks)
        log: IO[bytes] | None = None
        if config.log_path is not None:
            log = config.log_path.open("ab")
        processes: list[subprocess.Popen[bytes]] = []
        engine = cls(config, generation, processes)
        try:
            for rank in range(config.num_ranks):
                command = [sys.executable, "-m", cls.rank_module]
                command += ["--config", str(config_file), "--rank", str(rank)]
                processes.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        process_group=0,  # Ctrl-C is for the supervisor, which ends them in order
                    )
                )
        except OSError as error:
            engine.terminate()
            raise NevaError(f"the engine's processes can't be started: {error}") from error
        finally:
            if log is not None:
                log.close()
        return engine

    @property
    def pids(self) -> list[int]:
        """Process ids by rank, dead ones included."""
        return [process.pid for process in self._processes]

    def poll(self) -> DeadRank | None:
        """The rank that died (the one that died first where that can be told), or None."""
        dead = [
            DeadRank(rank, process.returncode)
            for rank, process in enumerate(self._processes)
            if process.poll() is not None
        ]
        # A rank that only noticed another's death is named when there is nobody else to name.
        return min(dead, key=lambda d: d.exit_code == EXIT_PEER_LOST, default=None)

    def last_words(self, dead: DeadRank) -> RankError:
        """Why that rank ended, in its own words if it could say any."""
        try:
            return _rank_error.validate_json(
                error_file(self.config.scratch_dir, dead.rank).read_bytes()
            )
        except (OSError, ValueError):
            if dead.exit_code < 0:
                how = f"was killed by {signal.Signals(-dead.exit_code).name}"
            else:
                how = f"exited with code {dead.exit_code}"
            message = f"engine rank {dead.rank} {how}"
            return RankError(Reason.ENGINE_CRASHED, message, retryable=True)

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until the engine answers on its socket.

        Raises:
            ConfigError: it refused the model or the configuration, in its own words.
            NevaError: ENGINE_CRASHED, retryable: it died otherwise, or took too long.
        """
        deadline_s = time.monotonic() + timeout_s
        client = EngineClient(self.config.socket_path)
        try:
            while time.monotonic() < deadline_s:
                dead = self.poll()
                if dead is not None:
                    words = self.last_words(dead)
                    kind = ConfigError if dead.exit_code == EXIT_CONFIG else NevaError
                    raise kind(words.message, reason=words.reason, retryable=words.retryable)
                try:
                    if client.status(_POLL_INTERVAL_S).generation == self.generation:
                        return
                except EngineLost:
                    continue  # not bound yet: the loading takes as long as it takes
        finally:
            client.close()
        raise NevaError(
            f"the engine was not ready within {timeout_s:g} s",
            reason=Reason.ENGINE_CRASHED,
            retryable=True,
        )

    def kill(self) -> None:
        """End all ranks at once, stopped or stuck ones too."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def terminate(self) -> None:
        """End all ranks: SIGTERM, then SIGKILL for those that don't go."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        deadline_s = time.monotonic() + TERM_GRACE_S
        for process in self._processes:
            try:
                process.wait(max(0.0, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _check(config: EngineConfig) -> None:
    if config.tensor_parallel_size < 1:
        raise ConfigError(f"tensor parallel size {config.tensor_parallel_size}: must be 1 or more")
    if config.pipeline_parallel_size < 1:
        raise ConfigError(
            f"pipeline parallel size {config.pipeline_parallel_size}: must be 1 or more"
        )
    if config.max_batch_rows < 1:
        raise ConfigError(f"max_batch_rows {config.max_batch_rows}: must be 1 or more")
    if config.prefill_piece_tokens < 1 or config.max_prefill_tokens < 1:
        raise ConfigError("max_prefill_tokens and prefill_piece_tokens must be 1 or more")
    if len(os.fsencode(config.socket_path)) > _MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"the engine's socket path is longer than {_MAX_SOCKET_PATH_BYTES} bytes, which Unix"
            f" sockets don't allow: {config.socket_path}"
        )


def _rank_environment(num_ranks: int) -> dict[str, str]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, _num_cores() // num_ranks)))
    environment.setdefault("GLOO_SOCKET_IFNAME", _loopback_name())
    # Nothing is ever fetched behind the user's back, and no tokenizer threads beside OpenMP's.
    environment.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    return environment


def _num_cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _loopback_name() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in ("lo", "lo0") if name in names), "lo")
