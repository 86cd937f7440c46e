"""Pages of plain text over HTTP: liveness, readiness, metrics in Prometheus' text format."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, str]


class _DualStackServer(ThreadingHTTPServer):
    """Listens on IPv6, too, where there is any: a cluster may have nothing else."""

    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class HttpServer:
    """Answers GETs by path, in threads of its own.

    Args:
        port: 0 takes a free one; see `port`.
    """

    def __init__(self, port: int, answers: Mapping[str, Callable[[], Answer]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = answers.get(self.path.partition("?")[0])
                status, text = answer() if answer is not None else (404, "no such page\n")
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Probes are no news."""

        self._server = _DualStackServer(("", port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="http").start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
