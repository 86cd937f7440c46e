from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from neva.errors import ConfigError
from neva.job_file import JobFileError
from neva.pod import job_of_environment, leave_last_words, read_last_words
from neva.reasons import Reason
from neva.settings import settings


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.cache_clear()
    yield
    monkeypatch.undo()
    settings.cache_clear()


@pytest.mark.parametrize(
    ("text", "words"), [(None, "not set"), ("{", "no JSON"), ("[]", "no job"), ("{}", "missing")]
)
def test_an_environment_without_a_valid_job_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str | None, words: str
) -> None:
    if text is not None:
        monkeypatch.setenv("NEVA_JOB", text)
    with pytest.raises(ConfigError, match=words):
        job_of_environment()


def test_all_problems_of_the_job_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEVA_JOB", '{"kind": "Pod", "apiVersion": "v1"}')
    with pytest.raises(JobFileError) as caught:
        job_of_environment()
    assert len(caught.value.problems) == 4


def test_last_words_are_read_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "words"
    monkeypatch.setenv("NEVA_TERMINATION_LOG", str(path))
    leave_last_words(Reason.STORE_DENIED, "s3://b/: 403")
    assert read_last_words(path.read_text()) == (Reason.STORE_DENIED, "s3://b/: 403")


def test_long_last_words_are_cut_to_what_kubernetes_keeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "words"
    monkeypatch.setenv("NEVA_TERMINATION_LOG", str(path))
    leave_last_words(Reason.INVALID_CONFIG, "ä" * 5000)
    assert 3990 < len(path.read_bytes()) <= 4096
    assert read_last_words(path.read_text())[0] is Reason.INVALID_CONFIG


def test_words_of_another_program_have_no_reason() -> None:
    assert read_last_words("Traceback: no\n") == (None, "Traceback: no")
