"""The judge for `neva doctor`: it can be reached, takes the key and knows the model."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from judge.client import Connection, OpenAIJudge
from judge.errors import ReviewFailed
from judge.prompt import Message
from judge.request import ReviewRequest, Sampling
from neva.errors import NevaError
from neva.findings import Finding, ok, problem, skipped
from neva.reasons import Reason
from neva.spec import VideoNevaJob
from neva.spec_judge import Judge

_PART = "judge"
_KEY = "API_TOKEN"
_TIMEOUT_S = 30.0
_MAX_TOKENS = 8


def examine(job: VideoNevaJob | None) -> Iterator[Finding]:
    """Asks for one answer of a few tokens: lists of models may be public, and keys not for all."""
    judge = None if job is None else job.spec.judge
    if judge is None:
        yield skipped(_PART, "no job file names one" if job is None else "the job has none")
        return
    key = os.environ.get(_KEY)
    where = f"{judge.model} at {judge.endpoint}"
    try:
        asyncio.run(_ask(judge, key))
    except ReviewFailed as error:
        if error.reason is Reason.VERDICT_UNREADABLE:
            yield ok(_PART, f"{where} answers, if with nothing so short")
            return
        yield problem(_PART, f"{where}: {error.message}", "correct judge.endpoint, or start it")
    except NevaError as error:
        hint = "" if key else f"the variable {_KEY} is not set here"
        yield problem(_PART, f"{where}: {error.message}", hint)
    else:
        yield ok(_PART, f"{where} answers")


async def _ask(judge: Judge, key: str | None) -> None:
    connection = Connection(min(_TIMEOUT_S, judge.timeout_seconds), structured=False)
    client = OpenAIJudge(judge.endpoint, api_key=key, connection=connection)
    request = ReviewRequest(
        judge.model, (Message("user", "Say yes."),), Sampling(max_tokens=_MAX_TOKENS)
    )
    try:
        await client.review(request)
    finally:
        await client.close()
