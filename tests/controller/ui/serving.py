"""The live view on a port of this process, for a browser."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from controller.ui.app import make_app
from controller.ui.server import LiveServer
from controller.ui.source import Source


@contextmanager
def serving(source: Source, interval_s: float = 0.2) -> Iterator[str]:
    """Its URL, while it is served."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = LiveServer(make_app(source, interval_s))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
