"""An HTTP proxy in front of an S3 server that breaks requests as told.

It forwards everything unchanged unless a `Fault` applies; each fault is used up after `times`
requests. `Weather` draws faults at random, without end. Signatures are not checked by the server
behind it, so headers may be dropped.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_LISTED = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
_KEY = re.compile(rb"<Key>(.*?)</Key>")
_BUCKET = re.compile(rb"<Name>(.*?)</Name>")
_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of one method whose path holds `path`.

    Exactly one of the following is set.

    Attributes:
        status, code: answer so, without asking the server.
        reset_after_bytes: reset the connection after so many bytes of the answer's body.
        close_after_bytes: the same with an orderly end.
        lose_answer: let the server do it, then close the connection without an answer.
        drop_header: forward without this request header.
        hide_newest_s: a listing lacks the keys that were put within so many seconds.

    delay_s is added to any of them, and may stand alone.
    """

    method: str
    path: str = ""
    times: int = 1
    status: int | None = None
    code: str = ""
    reset_after_bytes: int | None = None
    close_after_bytes: int | None = None
    lose_answer: bool = False
    drop_header: str | None = None
    hide_newest_s: float | None = None
    delay_s: float = 0.0


class Weather:
    """Faults without end, drawn from a seed: a share of all requests, and now and then an outage.

    Args:
        rate: the share of requests that fail while there is no outage.
        outage_s: longest time in which everything fails.
    """

    def __init__(self, seed: int, rate: float, outage_s: float = 2.0) -> None:
        self._random = random.Random(seed)
        self._rate = rate
        self._outage_s = outage_s
        self._outage_until_s = 0.0

    def draw(self, method: str, path: str, conditional: bool) -> Fault | None:
        """What goes wrong with this request, if anything does."""
        rng, now_s = self._random, time.monotonic()
        if now_s < self._outage_until_s:
            return Fault(method, status=503, code="SlowDown")
        if rng.random() < self._rate / 300:
            self._outage_until_s = now_s + rng.uniform(0.3, self._outage_s)
        if method == "GET" and "list-type=2" in path and rng.random() < self._rate * 2:
            return Fault(method, hide_newest_s=rng.uniform(0.2, 3.0))
        if rng.random() >= self._rate:
            return None
        kinds = [
            Fault(method, status=500, code="InternalError"),
            Fault(method, status=503, code="SlowDown"),
            Fault(method, lose_answer=True),
            Fault(method, delay_s=rng.uniform(0.1, 1.5)),
            Fault(method, lose_answer=True, delay_s=rng.uniform(0.1, 1.5)),
        ]
        if method == "GET":
            kinds.append(Fault(method, reset_after_bytes=rng.randrange(1, 4000)))
            kinds.append(Fault(method, close_after_bytes=rng.randrange(1, 4000)))
        if method == "PUT" and conditional:
            kinds.append(Fault(method, status=409, code="ConditionalRequestConflict"))
        return rng.choice(kinds)


@dataclass
class S3Proxy:
    """The running proxy: its URL, the faults to come, the requests seen (method, path, Range).

    Attributes:
        weather: faults beside those.
        put_at_s: when each object was put last, through this proxy (time.time, by URL path).
    """

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    weather: Weather | None = None
    put_at_s: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, method: str, path: str, conditional: bool) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
            return self.weather.draw(method, path, conditional) if self.weather else None

    def without_newest(self, listing: bytes, newest_s: float) -> bytes:
        """The listing as it was so long ago."""
        after_s = time.time() - newest_s
        with self.lock:
            hidden = {path for path, put_s in self.put_at_s.items() if put_s > after_s}
        bucket = _BUCKET.search(listing)
        prefix = f"/{bucket[1].decode()}/" if bucket else "/"

        def keep(item: re.Match[bytes]) -> bytes:
            key = _KEY.search(item[0])
            path = prefix + unquote(key[1].decode()) if key else ""
            return b"" if path in hidden else item[0]

        return _LISTED.sub(keep, listing)


@contextmanager
def s3_proxy(backend_url: str) -> Iterator[S3Proxy]:
    """A proxy on a free port of this machine, in threads of this process."""
    backend = urlsplit(backend_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self._read_body()
            conditional = "If-None-Match" in self.headers
            fault = proxy.take_fault(self.command, self.path, conditional)
            with proxy.lock:
                proxy.seen.append((self.command, self.path, self.headers.get("Range")))
            if fault is not None and fault.delay_s:
                time.sleep(fault.delay_s)
            if fault is not None and fault.status is not None:
                self._refuse(fault.status, fault.code)
                return
            dropped = {fault.drop_header.lower()} if fault and fault.drop_header else set()
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_HEADERS | dropped | {"host", "expect"}
            }
            connection = http.client.HTTPConnection(backend.hostname or "", backend.port)
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            content = answer.read()
            if self.command == "PUT" and answer.status == http.HTTPStatus.OK:
                with proxy.lock:
                    proxy.put_at_s[unquote(urlsplit(self.path).path)] = time.time()
            if fault is not None and fault.hide_newest_s is not None:
                content = proxy.without_newest(content, fault.hide_newest_s)
            self._answer(answer, content, fault)
            connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

        def _answer(
            self, answer: http.client.HTTPResponse, content: bytes, fault: Fault | None
        ) -> None:
            if fault is not None and fault.lose_answer:
                self._reset()
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_HEADERS | {"server", "date"}:
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            length = answer.getheader("Content-Length") if is_head else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if fault is not None and fault.reset_after_bytes is not None:
                self._write(content[: fault.reset_after_bytes])
                self._reset()
            elif fault is not None and fault.close_after_bytes is not None:
                self._write(content[: fault.close_after_bytes])
                self.close_connection = True
            elif not is_head:
                self._write(content)

        def _write(self, content: bytes) -> None:
            try:
                self.wfile.write(content)
                self.wfile.flush()
            except ConnectionError:
                self.close_connection = True  # the client had enough

        def _refuse(self, status: int, code: str) -> None:
            content = f"<Error><Code>{code}</Code><Message>told so</Message></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _reset(self) -> None:
            """End the connection with RST instead of FIN."""
            linger_on_with_no_time = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_on_with_no_time)
            self.close_connection = True
            self.connection.close()

        def _read_body(self) -> bytes:
            if self.headers.get("Expect", "").lower() == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
                length = int(self.headers.get("Content-Length", 0))
                body = self.rfile.read(length)
                if len(body) < length:
                    raise ConnectionAbortedError("the client died in the middle of its body")
                return body
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0] or b"-1", 16):
                if size < 0:
                    raise ConnectionAbortedError("the client died in the middle of its body")
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # clients may die, that is all
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    proxy = S3Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
