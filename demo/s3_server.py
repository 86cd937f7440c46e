"""An S3 server of one's own: moto on a free port of this machine, in memory.

Prints its port and ends when its standard input is closed, so it never outlives its starter.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.datastructures import Headers
from werkzeug.serving import make_server
from werkzeug.test import run_wsgi_app

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    """moto's server in threads of this process, while the `with` block runs.

    moto looks whether an object exists and writes it in two steps, so that of several conditional
    PUTs at once two may win; S3 lets one. Here they come one after the other.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = _one_conditional_put_at_a_time(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(host, port, app, threaded=True, request_handler=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(MotoRequestHandler):
    """Answers many requests on one connection, as S3 does: werkzeug's handler closes it each time.

    Bodies are whole in memory, where moto keeps them anyway.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the rest of an answer would wait until its start has arrived
    wbufsize = -1

    def run_wsgi(self) -> None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.wfile.flush()
        environ = self.make_environ()
        body = environ["wsgi.input"]
        if environ.get("wsgi.input_terminated"):
            environ["wsgi.input"] = io.BytesIO(body.read())
        else:
            # To its end, whatever the application makes of it: the next request follows.
            num_bytes = int(environ.get("CONTENT_LENGTH") or 0)
            data = body.read(num_bytes)
            if len(data) < num_bytes:  # the client is gone
                self.close_connection = True
                return
            environ["wsgi.input"] = io.BytesIO(data)
        answer, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        self._send(environ["REQUEST_METHOD"], status, headers, b"".join(answer))

    def _send(self, method: str, status: str, headers: Headers, content: bytes) -> None:
        code, _, words = status.partition(" ")
        self.send_response(int(code), words)
        if method != "HEAD":  # its length is that of the object
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if method != "HEAD":
            self.wfile.write(content)


def _one_conditional_put_at_a_time(app: _Wsgi) -> _Wsgi:
    lock = threading.Lock()

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
            return app(environ, start_response)
        with lock:
            return app(environ, start_response)

    return handle


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with S3Server() as server:
        print(server.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
