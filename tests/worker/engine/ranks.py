"""Real rank processes for tests: started once, then asked to run functions together."""

from __future__ import annotations

import multiprocessing
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.support.device import TEST_DEVICE, require_devices

_PATIENCE_S = 120


class RankPool:
    """`size` processes that have joined as the ranks of one engine.

    A function that failed leaves the ranks out of step: the next one gets new processes.
    """

    def __init__(self, size: int, directory: Path, num_stages: int = 1) -> None:
        """size: of all pipeline stages together."""
        require_devices(size)
        self._size = size
        self._num_stages = num_stages
        self._directory = directory
        self._num_starts = 0
        self._connections: list[Connection[Any, Any]] = []
        self._processes: list[Any] = []

    def _start(self) -> None:
        context: Any
        if TEST_DEVICE == "cuda":  # a process that has asked for GPUs must not be forked
            context = multiprocessing.get_context("spawn")
        else:
            # One import of torch and megatron for all pools: the ranks are forked from its process.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["tests.worker.engine.rank_functions"])
        self._num_starts += 1
        rendezvous_file = self._directory / f"rendezvous-{self._num_starts}"
        for rank in range(self._size):
            ours, theirs = context.Pipe()
            arguments = (rank, self._size, rendezvous_file, self._num_stages, theirs)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)

    def run(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """`function(ranks, *arguments)` on every rank at once; the results by rank."""
        if not self._processes:
            self._start()
        for connection in self._connections:
            connection.send((function, arguments))
        results: list[Any] = []
        errors: list[str] = []
        for rank, connection in enumerate(self._connections):
            if connection.poll(0 if errors else _PATIENCE_S):
                error, result = connection.recv()
                results.append(result)
            else:
                error = "did not finish"
            if error is not None:
                errors.append(f"rank {rank}: {error}")
        if errors:
            self.close()
            raise AssertionError("\n".join(errors))
        return results

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.kill()  # nothing to save, and leaving in order takes long
            process.join()
        self._connections, self._processes = [], []


def _serve(
    rank: int,
    size: int,
    rendezvous_file: Path,
    num_stages: int,
    connection: Connection[Any, Any],
) -> None:
    import torch

    from worker.engine import distributed
    from worker.engine.device import choose_device
    from worker.engine.megatron_api import silence_its_own_warnings

    warnings.simplefilter("error")
    silence_its_own_warnings()

    torch.set_num_threads(1)
    ranks = distributed.join(
        rank, size, choose_device(TEST_DEVICE, rank, size), rendezvous_file, num_stages
    )
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((None, function(ranks, *arguments)))
        except Exception:  # noqa: BLE001  (handed to the test, whatever it is)
            connection.send((traceback.format_exc(), None))


def same_on_all(results: Sequence[Any]) -> Any:
    """The result that all ranks must agree on."""
    assert all(result == results[0] for result in results), results
    return results[0]
