"""Liveness, readiness and metrics of the operator, over HTTP, in Prometheus' text format."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = tuple[int, str]


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

        self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True, name="http").start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def metrics_text(values: Mapping[str, tuple[str, str, Mapping[str, float] | float]]) -> str:
    """Prometheus' text format.

    Args:
        values: by name: type, help, and the value, or values by the label `phase`.
    """
    lines = []
    for name, (kind, words, value) in values.items():
        lines += [f"# HELP {name} {words}", f"# TYPE {name} {kind}"]
        if isinstance(value, Mapping):
            lines += [f'{name}{{phase="{phase}"}} {n:g}' for phase, n in sorted(value.items())]
        else:
            lines.append(f"{name} {value:g}")
    return "\n".join(lines) + "\n"
