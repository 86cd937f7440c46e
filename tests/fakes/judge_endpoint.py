"""An OpenAI-compatible endpoint that can do everything wrong, on a thread of its own.

Speaks HTTP by hand, because half of what it must do no HTTP library lets one do. Measures what
arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Writer = asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class Seen:
    """One request."""

    at_s: float
    body: dict[str, Any]
    headers: str

    @property
    def content(self) -> str:
        return str(self.body["messages"][-1]["content"])


@dataclass
class Log:
    """What arrived, in order."""

    seen: list[Seen] = field(default_factory=list)

    def most_in(self, window_s: float) -> int:
        """Most requests in any window of that length."""
        times = sorted(one.at_s for one in self.seen)
        start = most = 0
        for end, time_s in enumerate(times):
            while times[start] <= time_s - window_s:
                start += 1
            most = max(most, end - start + 1)
        return most


Handler = Callable[[Seen, Writer], Awaitable[None]]


def chunk(content: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a streamed completion."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


def completion(content: str | None, num_tokens: tuple[int, int] = (100, 7)) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "judge-1-2024",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": num_tokens[0], "completion_tokens": num_tokens[1]},
    }


async def send(
    writer: Writer, status: int, body: bytes, content_type: str = "application/json", **headers: str
) -> None:
    """A whole response."""
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
    await writer.drain()


async def send_json(writer: Writer, record: Any, status: int = 200, **headers: str) -> None:
    await send(writer, status, json.dumps(record).encode(), **headers)


async def start_stream(writer: Writer) -> None:
    """The head of a response whose body lasts until the connection closes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    await writer.drain()


async def send_events(writer: Writer, *events: dict[str, Any] | str, space: str = " ") -> None:
    """Events of a stream; a text stands as it is."""
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event)
        writer.write(f"data:{space}{data}\n\n".encode())
    await writer.drain()


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[tuple[str, Log]]:
    """Run an endpoint; yields its base URL and its log."""
    log = Log()
    loop = asyncio.new_event_loop()
    started: threading.Event = threading.Event()
    port: list[int] = []
    open_now: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            while await _one(reader, writer, handler, log):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            open_now.discard(task)
            writer.close()

    async def main(stop: asyncio.Event) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port.append(server.sockets[0].getsockname()[1])
        started.set()
        await stop.wait()
        server.close()
        for task in list(open_now):
            task.cancel()
        await asyncio.gather(*open_now, return_exceptions=True)
        await server.wait_closed()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(main(stop)))
    thread.start()
    try:
        assert started.wait(30)
        yield f"http://127.0.0.1:{port[0]}/v1", log
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _one(reader: asyncio.StreamReader, writer: Writer, handler: Handler, log: Log) -> bool:
    """Take one request; False when the connection is to close."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    length = next(
        int(line.partition(":")[2])
        for line in head.split("\r\n")
        if line.lower().startswith("content-length:")
    )
    body = json.loads(await reader.readexactly(length))
    seen = Seen(time.monotonic(), body, head)
    log.seen.append(seen)
    await handler(seen, writer)
    return not writer.is_closing()


class RateLimited:
    """A handler that holds to a limit of requests in any window, as strict endpoints do.

    Args:
        handler: answers what is let through.
        retry_after: also says when to come back.
    """

    def __init__(self, handler: Handler, most: int, window_s: float, *, retry_after: bool) -> None:
        self._handler = handler
        self._most = most
        self._window_s = window_s
        self._retry_after = retry_after
        self._let_through: list[float] = []
        self.num_refused = 0

    async def __call__(self, seen: Seen, writer: Writer) -> None:
        now_s = seen.at_s
        self._let_through = [t for t in self._let_through if t > now_s - self._window_s]
        if len(self._let_through) < self._most:
            self._let_through.append(now_s)
            await self._handler(seen, writer)
            return
        self.num_refused += 1
        wait_s = self._let_through[0] + self._window_s - now_s
        headers = {"retry_after": f"{wait_s:.3f}"} if self._retry_after else {}
        await send_json(writer, {"error": {"message": "too many"}}, 429, **headers)
