"""What stands where in a record of a question and its answer, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping

from neva.errors import RowError
from neva.media_names import normalise_media_name

# Order matters: our own outputs and NeMo 2.0.0rc1's keep the question in `text`, and the answer
# beside it; files of LLaVA and of NeMo 2.0.0rc0 have the answer itself in `text`.
ANSWER_KEYS = ("response", "pred_answer", "text")
_QUESTION_KEYS = ("question", "prompt", "text")
_MEDIA_KEYS = ("video", "image")


def answer_of(record: Mapping[str, object]) -> object:
    """The answer in a record of any known shape, if it has one."""
    return next((record[key] for key in ANSWER_KEYS if key in record), None)


def question_of(record: Mapping[str, object]) -> object:
    """What was asked; None when the record does not say."""
    return next((record[key] for key in _QUESTION_KEYS if record.get(key)), None)


def media_of(record: Mapping[str, object]) -> str | None:
    """The video or image that a record is about."""
    names = (record[key] for key in _MEDIA_KEYS if isinstance(record.get(key), str))
    named = next(names, record.get("media"))
    return named if isinstance(named, str) else None


def media_key(name: str) -> str:
    """The form in which media names of different files are compared: that of the job's rows."""
    try:
        return normalise_media_name(name)
    except RowError:
        return name  # no name that a job would open, but two files may still agree on it
