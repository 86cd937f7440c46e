from __future__ import annotations

import pytest

from neva.errors import ConfigError
from neva.media_rules import Decoder
from worker.media.installed import require_decoder


@pytest.mark.parametrize("decoder", ["decord", "torchcodec"])
def test_a_decoder_that_is_not_there_is_a_wrong_job(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"spec\.media\.decoder: {decoder} is not installed"):
        require_decoder(decoder)


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_what_every_worker_has_is_not_asked_for(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    require_decoder(decoder)
