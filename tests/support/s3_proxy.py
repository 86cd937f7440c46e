"""An HTTP proxy in front of an S3 server that breaks requests as told.

It forwards everything unchanged unless a `Fault` applies; each fault is used up after `times`
requests. Signatures are not checked by the server behind it, so headers may be dropped.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

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


@dataclass
class S3Proxy:
    """The running proxy: its URL, the faults to come, the requests seen (method, path, Range)."""

    url: str
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def s3_proxy(backend_url: str) -> Iterator[S3Proxy]:
    """A proxy on a free port of this machine, in threads of this process."""
    backend = urlsplit(backend_url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _handle(self) -> None:
            body = self._read_body()
            fault = proxy.take_fault(self.command, self.path)
            with proxy.lock:
                proxy.seen.append((self.command, self.path, self.headers.get("Range")))
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
            self._answer(answer, answer.read(), fault)
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
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(chunks)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy = S3Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
