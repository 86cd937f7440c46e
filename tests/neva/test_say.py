from __future__ import annotations

from pathlib import Path

import pytest
import typer

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason
from neva.say import errors_as_exit_codes
from neva.store import StoreUnavailable
from neva.store.file import FileStore


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("m"), 2),
        (ConfigError("m", reason=Reason.OUTPUT_IN_USE), 2),
        (StoreUnavailable("m"), 1),
        (NevaError("m"), 1),
    ],
)
def test_exit_codes_tell_what_is_wrong_from_what_can_not_be_had(
    error: NevaError, code: int
) -> None:
    with pytest.raises(typer.Exit) as left, errors_as_exit_codes():
        raise error
    assert left.value.exit_code == code


def test_an_output_below_a_file_is_a_wrong_job(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(typer.Exit) as left, errors_as_exit_codes():
        FileStore(tmp_path / "file").put("y.jsonl", b"")
    assert left.value.exit_code == 2
