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
from werkzeug.serving import make_server

_Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    """moto's server in threads of this process, while the `with` block runs.

    moto looks whether an object exists and writes it in two steps, so that of several conditional
    PUTs at once two may win; S3 lets one. Here they come one after the other.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        app = _one_conditional_put_at_a_time(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            host, port, app, threaded=True, request_handler=MotoRequestHandler
        )
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


def _one_conditional_put_at_a_time(app: _Wsgi) -> _Wsgi:
    lock = threading.Lock()

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if "HTTP_IF_NONE_MATCH" not in environ or environ["REQUEST_METHOD"] != "PUT":
            return app(environ, start_response)
        # Read first: a slow client must not keep the others waiting.
        if num_bytes := environ.get("CONTENT_LENGTH"):
            environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(num_bytes)))
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
