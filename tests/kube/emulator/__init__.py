"""A Kubernetes API server for tests: one process, no cluster, real HTTP.

`Emulator` runs in a thread of this process; `python -m tests.kube.emulator` as a process of its
own. What it has in common with the real one is listed by its tests, and the same suites run on a
real one with KUBECONFIG set.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import yaml
from aiohttp import web

from tests.kube.emulator.api import Api, Caller
from tests.kube.emulator.http import HttpApi
from tests.kube.emulator.requests import Fault, Request, RequestLog
from tests.kube.emulator.resources import Obj, Registry
from tests.kube.emulator.store import Store

__all__ = ["Emulator", "Fault", "Request", "RequestLog"]

_NAMESPACES = ("default", "kube-system", "kube-node-lease")
_T = TypeVar("_T")


class Emulator:
    """One emulated API server with an empty cluster behind it.

    Attributes:
        requests: everything that was asked; also where faults are arranged.
        log_folder: where a kubelet leaves the pods' logs.
    """

    def __init__(self, log_folder: Path | None = None, port: int = 0) -> None:
        self.requests = RequestLog()
        self.log_folder = log_folder
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="emulator", daemon=True)
        self._ready: Future[int] = Future()
        self._stop = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ready.result(timeout=30)}"

    def start(self) -> None:
        """Serve, in a thread; returns when it does."""
        self._thread.start()
        self._ready.result(timeout=30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=30)

    def kubeconfig(self, user: str, namespace: str = "default") -> Obj:
        """A kubeconfig whose requests are logged as `user`'s."""
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "emulator",
            "clusters": [{"name": "emulator", "cluster": {"server": self.url}}],
            "users": [{"name": user, "user": {"token": user}}],
            "contexts": [
                {
                    "name": "emulator",
                    "context": {"cluster": "emulator", "user": user, "namespace": namespace},
                }
            ],
        }

    def write_kubeconfig(self, path: Path, user: str, namespace: str = "default") -> Path:
        path.write_text(yaml.safe_dump(self.kubeconfig(user, namespace)), encoding="utf-8")
        return path

    def with_store(self, do: Callable[[Store], _T]) -> _T:
        """Run `do` on the store in the server's thread, e.g. to forget its history."""
        done: Future[_T] = Future()

        def run() -> None:
            try:
                done.set_result(do(self._store))
            except Exception as error:  # noqa: BLE001  (goes to the caller)
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(timeout=30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._run())
        except Exception as error:
            if not self._ready.done():
                self._ready.set_exception(error)
            else:
                raise
        finally:
            self._loop.close()

    async def _run(self) -> None:
        self._store = Store()
        resources = Registry()
        api = Api(self._store, resources)
        namespaces = resources.find("", "v1", "namespaces")
        assert namespaces is not None
        for name in _NAMESPACES:
            metadata: dict[str, Any] = {"metadata": {"name": name}}
            api.create(namespaces, None, metadata, Caller(manager="emulator"))
        handler = HttpApi(api, self.requests, self.log_folder)
        # A watch that nobody ends would hold up the end of everything.
        runner = web.AppRunner(
            handler.application(), access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._ready.set_result(runner.addresses[0][1])
        await self._stop.wait()
        await runner.cleanup()


@contextlib.contextmanager
def running_emulator(log_folder: Path | None = None) -> Iterator[Emulator]:
    """An emulator for as long as the block lasts."""
    emulator = Emulator(log_folder)
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()
