"""The queue through TLS: a server by its address, and one that a Sentinel names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from neva import queue
from tests.support.sentinel import answers, free_ports, start_server, wait_until
from tests.support.tls import make_certificate, tls_before


@dataclass(frozen=True)
class Servers:
    """Ports with TLS, and without it a client to look with."""

    master: int
    sentinel: int
    certificate: Path
    behind: redis.Redis


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("tls")
    certificate = make_certificate(folder)
    ports = free_ports("master", "sentinel")
    with ExitStack() as stack:
        master = stack.enter_context(tls_before(ports["master"], certificate))
        # It asks the master in plain words, and would take a while to call it down.
        watch = f"sentinel monitor m 127.0.0.1 {master} 1\n"
        watch += "sentinel down-after-milliseconds m 600000\n"
        for name, config, option in (
            ("master", 'save ""\n', ()),
            ("sentinel", watch, ("--sentinel",)),
        ):
            process = start_server(folder / name, ports[name], config, *option)
            stack.callback(process.wait)
            stack.callback(process.kill)
            client = stack.enter_context(redis.Redis(port=ports[name]))
            wait_until(lambda client=client: answers(client))
        sentinel = stack.enter_context(tls_before(ports["sentinel"], certificate))
        behind = stack.enter_context(redis.Redis(port=ports["master"]))
        yield Servers(master, sentinel, certificate, behind)


@pytest.mark.parametrize(
    "url", ["rediss://127.0.0.1:{0.master}/0?", "rediss+sentinel://127.0.0.1:{0.sentinel}/m?"]
)
def test_messages_and_leases_go_through_tls(servers: Servers, url: str) -> None:
    trusting = f"{url.format(servers)}ssl_cert_reqs=required&ssl_ca_certs={servers.certificate}"
    servers.behind.flushall()
    with queue.make_app(trusting, "run") as app, queue.connect(trusting) as client:
        queue.send(app, queue.ShardMessage("run", 0))
        assert queue.depth(client, "run") == queue.depth(servers.behind, "run")
        assert queue.depth(servers.behind, "run").ready == 1
    with (
        queue.connect(f"{url.format(servers)}ssl_cert_reqs=required") as doubting,
        pytest.raises(redis.ConnectionError) as refusal,
    ):
        doubting.ping()
    words = queue.error_words(refusal.value)
    assert "certificate verify failed" in words or words == "No master found for 'm'"
