"""Routes of the live view. All of them only read: GET and HEAD, nothing else."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.ui import page
from controller.ui.looks import jobs_look, run_look
from controller.ui.source import NoSuchJob, Source
from controller.ui.watch import Bells, Look, Watch
from neva.errors import NevaError
from neva.ledger import layout
from neva.store.base import Store

_FIRST_LOOK_S = 5.0  # a page waits so long for its content; the rest comes by events
_HEARTBEAT_S = 15.0
_MAX_STREAMS = 128
_MAX_WATCHES = 64
_JOBS_INTERVAL_S = 5.0
_CHUNK_BYTES = 1 << 16
_MAX_FRAMES_BYTES = 4 << 20
_FRAMES_NAME = re.compile(r"[0-9a-f]{16}\.jpg")
_JPEG = b"\xff\xd8\xff"
_HEADERS = {
    "content-security-policy": page.POLICY,
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Live:
    """The state behind the routes: one watch for the list, one for each job that is shown."""

    def __init__(self, source: Source, interval_s: float) -> None:
        self.source = source
        self.streams: set[asyncio.Event] = set()
        self.stopping = False
        self._interval_s = interval_s
        self._bells = Bells()
        slow_s = max(interval_s, _JOBS_INTERVAL_S)
        self.jobs = Watch(jobs_look(source, slow_s), slow_s, self._bells)
        self._runs: OrderedDict[str, Watch] = OrderedDict()

    def run(self, run_id: str) -> Watch:
        """What looks at a job, which must be one."""
        watch = self._runs.pop(run_id, None)
        if watch is None:
            watch = Watch(run_look(self.source, run_id), self._interval_s, self._bells)
        self._runs[run_id] = watch
        for other in [key for key, one in self._runs.items() if not one.num_followers]:
            if len(self._runs) <= _MAX_WATCHES or other == run_id:
                break
            del self._runs[other]
        return watch

    def stop(self) -> None:
        """End every stream: a page that is open never does it by itself."""
        self.stopping = True
        for bell in self.streams:
            bell.set()

    async def chosen(self, request: Request) -> str | None:
        """The job that a request is about; None: the list alone. HTTPException 404: no such."""
        run_id = request.query_params.get("run") or self.source.only_run
        if run_id is None:
            return None
        try:
            await run_in_threadpool(self.source.line, run_id)
        except NoSuchJob as error:
            raise HTTPException(404, error.message) from error
        except NevaError:
            pass  # the look at the job says so
        return run_id

    async def store(self, request: Request) -> Store:
        run_id = await self.chosen(request)
        if run_id is None:
            raise HTTPException(404, "no job is named")
        try:
            return (await run_in_threadpool(self.source.reader, run_id)).ledger.store
        except NevaError as error:
            raise HTTPException(404, error.message) from error


def make_app(source: Source, interval_s: float = 2.0, hosts: Sequence[str] = ("*",)) -> Starlette:
    """The live view of some jobs.

    Args:
        interval_s: least time between two looks at a job.
        hosts: names by which it may be asked for; a browser that was led here under another one
            gets nothing (DNS rebinding).
    """
    live = Live(source, interval_s)

    async def index(request: Request) -> Response:
        run_id = await live.chosen(request)
        watches = [live.jobs] + ([live.run(run_id)] if run_id is not None else [])
        looks = await asyncio.gather(*(watch.soon(_FIRST_LOOK_S) for watch in watches))
        sections = {name: html for look in looks if look for name, html in look.sections.items()}
        title = f"{run_id} · neva-batch" if run_id else "neva-batch"
        return HTMLResponse(page.page(title, run_id or "", sections))

    async def events(request: Request) -> Response:
        run_id = await live.chosen(request)
        if len(live.streams) >= _MAX_STREAMS:
            raise HTTPException(503, "too many pages are open", {"Retry-After": "30"})
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        watches = [live.jobs] + ([live.run(run_id)] if run_id is not None else [])
        return StreamingResponse(
            _events(live, watches),
            media_type="text/event-stream",
            headers={"x-accel-buffering": "no"},  # nginx passes each event on
        )

    async def frames(request: Request) -> Response:
        name = request.path_params["name"]
        if not _FRAMES_NAME.fullmatch(name):
            raise HTTPException(404)
        store = await live.store(request)
        data = await run_in_threadpool(_picture, store, f"frames/{name}")
        headers = {"cache-control": "private, max-age=3600"}
        return Response(data, media_type="image/jpeg", headers=headers)

    async def report(request: Request) -> Response:
        store = await live.store(request)
        try:
            info = await run_in_threadpool(store.head, layout.REPORT)
        except NevaError as error:
            raise HTTPException(502, error.message) from error
        if info is None:
            raise HTTPException(404, "there is no report yet")
        headers = {"content-security-policy": page.REPORT_POLICY}
        content = _content(store, layout.REPORT)
        return StreamingResponse(content, media_type="text/html; charset=utf-8", headers=headers)

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def static(text: str, media_type: str) -> Route:
        async def serve(request: Request) -> Response:
            return Response(text, media_type=media_type, headers={"cache-control": "no-cache"})

        suffix = {"text/css": "ui.css", "text/javascript": "ui.js", "image/svg+xml": "icon.svg"}
        return Route(f"/{suffix[media_type]}", serve)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/events", events),
            Route("/frames/{name}", frames),
            Route("/report", report),
            Route("/healthz", health),
            static(page.style(), "text/css"),
            static(page.program(), "text/javascript"),
            static(page.icon(), "image/svg+xml"),
        ],
        middleware=[
            Middleware(_SafeHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False),
        ],
    )
    app.state.live = live
    return app


async def _events(live: Live, watches: Sequence[Watch]) -> AsyncIterator[str]:
    """Sections as they change, to one client; a comment now and then, so that a proxy waits."""
    bell = asyncio.Event()
    sent: dict[str, str] = {}
    live.streams.add(bell)
    try:
        with ExitStack() as stack:
            for watch in watches:
                stack.enter_context(watch.following(bell))
            while not live.stopping:
                bell.clear()
                looks = [look for watch in watches if (look := watch.latest) is not None]
                changed = dict(_changed(looks, sent))
                if changed:
                    sent.update(changed)
                    yield f"event: sections\ndata: {orjson.dumps(changed).decode()}\n\n"
                try:
                    await asyncio.wait_for(bell.wait(), _HEARTBEAT_S)
                except TimeoutError:
                    yield ": still here\n\n"
    finally:
        live.streams.discard(bell)


def _changed(looks: Sequence[Look], sent: dict[str, str]) -> Iterator[tuple[str, str]]:
    for look in looks:
        for name, html in look.sections.items():
            if sent.get(name) != html:
                yield name, html


def _picture(store: Store, key: str) -> bytes:
    try:
        info = store.head(key)
        data = store.get(key) if info and info.size_bytes <= _MAX_FRAMES_BYTES else b""
    except NevaError as error:
        raise HTTPException(502, error.message) from error
    if not data.startswith(_JPEG):
        raise HTTPException(404)
    return data


def _content(store: Store, key: str) -> Iterator[bytes]:
    with store.open_read(key) as stream:
        yield from iter(lambda: stream.read(_CHUNK_BYTES), b"")


class _SafeHeaders:
    """What every answer says, whatever comes of the request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with)
