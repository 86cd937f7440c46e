"""A TCP proxy whose connections are cut, silenced or slowed down, whatever is said on them.

Unlike `s3_proxy` it knows nothing of HTTP, so it can fail in the middle of a request's body.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True)
class Broken:
    """What is wrong with one connection.

    Attributes:
        cut_after_bytes: of the client's; then it is reset.
        silent: what the client says goes nowhere.
        drip_bytes, drip_pause_s: the server's answers come in such small pieces.
    """

    cut_after_bytes: int | None = None
    silent: bool = False
    drip_bytes: int = _CHUNK_BYTES
    drip_pause_s: float = 0.0


@dataclass
class TcpProxy:
    """The running proxy: its URL, what is wrong with the next connections, how many there were."""

    url: str
    broken: list[Broken] = field(default_factory=list)
    num_connections: int = 0


@contextmanager
def tcp_proxy(backend_url: str) -> Iterator[TcpProxy]:
    """A proxy on a free port of this machine, in threads of this process."""
    backend = urlsplit(backend_url)
    address = (backend.hostname or "", backend.port or 80)
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = TcpProxy(f"http://127.0.0.1:{listener.getsockname()[1]}")
    open_sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            proxy.num_connections += 1
            wrong = proxy.broken.pop(0) if proxy.broken else Broken()
            server = socket.create_connection(address)
            open_sockets.extend((client, server))
            for work in (
                lambda c=client, s=server, w=wrong: _requests(c, s, w),
                lambda c=client, s=server, w=wrong: _answers(s, c, w),
            ):
                threads.append(threading.Thread(target=work))
                threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for end in open_sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for end in open_sockets:
            end.close()


def _requests(client: socket.socket, server: socket.socket, wrong: Broken) -> None:
    left = wrong.cut_after_bytes
    with contextlib.suppress(OSError):
        while data := client.recv(_CHUNK_BYTES if left is None else max(1, min(left, 4096))):
            if wrong.silent:
                continue
            if left is not None:
                left -= len(data)
                if left <= 0:
                    _reset(client)
                    break
            server.sendall(data)
        server.shutdown(socket.SHUT_RDWR)


def _answers(server: socket.socket, client: socket.socket, wrong: Broken) -> None:
    with contextlib.suppress(OSError):
        while data := server.recv(wrong.drip_bytes):
            client.sendall(data)
            if wrong.drip_pause_s:
                time.sleep(wrong.drip_pause_s)
        client.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """End it with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
