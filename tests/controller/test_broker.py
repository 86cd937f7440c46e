"""The embedded broker of a local run."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.local import broker
from controller.local.broker import EmbeddedBroker
from neva.errors import NevaError
from neva.reasons import Reason


def test_a_broker_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "valkey-server"
    server.write_text("#!/bin/sh\nexit 1\n")
    server.chmod(0o755)
    monkeypatch.setattr(broker, "_server", lambda: server)
    with pytest.raises(NevaError, match="NEVA_REDIS_URL") as caught, EmbeddedBroker():
        pass
    assert caught.value.reason == Reason.BROKER_UNAVAILABLE
