from __future__ import annotations

from pathlib import Path

import pytest

from neva.errors import ConfigError
from worker.engine.admission import ModelLimits
from worker.engine.progress import Progress
from worker.engine.protocol import EngineStatus
from worker.engine.server import EngineServer


def test_a_socket_that_can_not_be_made_is_a_wrong_configuration_in_one_line(tmp_path: Path) -> None:
    status = EngineStatus("g", 0, 0, 8, 64, 1, 1, "fp32", "cpu", 0, 0, 0, 0)
    limits = ModelLimits(64, 100, 4, 3, 8, piece_tokens=512, cache_tokens=1000)
    server = EngineServer(tmp_path / "nowhere" / "engine.sock", status, limits, Progress())
    try:
        with pytest.raises(ConfigError, match=r"nowhere/engine\.sock can't be made: ") as raised:
            server.start()
        assert "\n" not in raised.value.message
    finally:
        server._router.close()
        server._wake.close()
        server._context.term()
