"""One rank process: `python -m worker.engine.rank --config FILE --rank N`.

It ends with its parent, and when any other rank ends: a waiting collective fails as soon as a
peer's connection closes, and rank 0 sends an empty command every second while there is no work.
The reason of its end goes to stderr as one line, and to a file for `EngineProcesses.last_words`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from pathlib import Path

import orjson

from neva.process import die_with_parent
from worker.engine import distributed
from worker.engine.build import LoadedEngine, load_engine
from worker.engine.commands import CommandChannel, Commands
from worker.engine.device import choose_device
from worker.engine.engine import Engine
from worker.engine.last_words import last_words
from worker.engine.launch import EXIT_INTERNAL, RankConfig, error_file, read_rank_config
from worker.engine.progress import Progress
from worker.engine.protocol import EngineFigures, EngineStatus, Outcome
from worker.engine.server import EngineServer

_HEARTBEAT_INTERVAL_S = 1.0


def run_rank(config: RankConfig, rank: int) -> None:
    """Join the others, load, and compute until the process ends.

    Raises:
        ConfigError: see `load_engine`.
        RuntimeError: a collective failed, usually because another rank is gone.
    """
    size, num_stages = config.engine.num_ranks, config.engine.pipeline_parallel_size
    device = choose_device(config.engine.device, rank, size)
    rendezvous_file = config.engine.scratch_dir / "rendezvous"
    ranks = distributed.join(rank, size, device, rendezvous_file, num_stages)
    progress = Progress()
    loaded = load_engine(config.engine, ranks, progress)
    distributed.everyone_is_here(ranks)  # and can compute
    channel = CommandChannel(ranks)
    if rank == 0:
        _lead(loaded, channel, config, str(device), progress)
    else:
        _follow(loaded.engine, channel)


def _lead(
    loaded: LoadedEngine,
    channel: CommandChannel,
    config: RankConfig,
    device: str,
    progress: Progress,
) -> None:
    engine = loaded.engine

    def status() -> EngineStatus:
        return EngineStatus(
            generation=config.generation,
            num_active=len(engine.scheduler.active),
            num_waiting=engine.scheduler.num_waiting,
            max_batch_rows=config.engine.max_batch_rows,
            context_tokens=loaded.limits.context_tokens,
            tensor_parallel_size=config.engine.tensor_parallel_size,
            pipeline_parallel_size=config.engine.pipeline_parallel_size,
            precision=config.engine.precision,
            device=device,
            num_steps=engine.num_steps,
            num_vision_passes=engine.inputs.vision.num_passes,
            num_prefilled_tokens=engine.num_prefilled_tokens,
            progress=progress.count,
            figures=_figures(engine, loop),
        )

    loop = _LoopTime()
    server = EngineServer(config.engine.socket_path, status(), loaded.limits, progress)
    server.start()
    while True:
        commands = server.take_commands(0.0 if engine.has_work else _HEARTBEAT_INTERVAL_S)
        loop.passed(busy=engine.has_work)
        channel.send(commands)
        _apply(commands, engine)
        has_work = engine.has_work
        outcomes = _turn(engine, channel)
        loop.passed(busy=has_work)
        server.publish(outcomes, status())
        progress.tick()


class _LoopTime:
    """Seconds of the step loop, with rows to compute and without."""

    def __init__(self) -> None:
        self.busy_s = self.idle_s = 0.0
        self._at_s = time.perf_counter()

    def passed(self, *, busy: bool) -> None:
        """What passed since the last call was so."""
        now_s = time.perf_counter()
        if busy:
            self.busy_s += now_s - self._at_s
        else:
            self.idle_s += now_s - self._at_s
        self._at_s = now_s


def _figures(engine: Engine, loop: _LoopTime) -> EngineFigures:
    features, prefixes = engine.inputs.features, engine.scheduler.prefixes
    return EngineFigures(
        num_tokens=engine.num_tokens,
        num_feature_hits=features.num_hits,
        num_feature_misses=features.num_misses,
        num_prefix_hits=prefixes.num_hits,
        num_prefix_misses=prefixes.num_misses,
        cache_bytes=engine.language_model.cache.num_bytes,
        cache_used_ratio=engine.cache_need_tokens / engine.scheduler.limits.cache_tokens,
        busy_s=loop.busy_s,
        idle_s=loop.idle_s,
    )


def _follow(engine: Engine, channel: CommandChannel) -> None:
    while True:
        _apply(channel.receive(), engine)
        _turn(engine, channel)


def _turn(engine: Engine, channel: CommandChannel) -> list[tuple[int, Outcome]]:
    """One step; without work a sign of life of all ranks, so that a stopped one is noticed."""
    if engine.has_work:
        return engine.step()
    channel.confirm()
    return []


def _apply(commands: Commands, engine: Engine) -> None:
    engine.drop(commands.drop)
    for row in commands.add:
        engine.add(row.ticket, row.request)


def main() -> int:
    """Entry point; the exit code says who is to blame (see `worker.engine.launch`)."""
    parser = argparse.ArgumentParser(prog="python -m worker.engine.rank")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--rank", type=int, required=True)
    arguments = parser.parse_args()
    config = read_rank_config(arguments.config)
    rank: int = arguments.rank
    die_with_parent(config.parent_pid)
    try:
        run_rank(config, rank)
    except Exception as error:  # noqa: BLE001  (the process's last handler: say why, then end)
        code, words = last_words(error)
        if code == EXIT_INTERNAL:
            traceback.print_exc()
        print(f"engine rank {rank}: {words.reason}: {words.message}", file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # the supervisor may have cleaned up already
            error_file(config.engine.scratch_dir, rank).write_bytes(orjson.dumps(words))
        return code
    return 0


if __name__ == "__main__":
    # No interpreter shutdown: it would wait for the server's thread and for dead peers.
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
