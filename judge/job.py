"""Judges files, and the answers of a job: inputs in, scores and report out.

Callers: the `judge` command, and whatever runs the judge of a job as a process of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from judge.asking import Limits, Progress
from judge.client import Connection, OpenAIJudge
from judge.inputs import InputFiles, Inputs, NamedAnswers, read_inputs
from judge.modes import Mode
from judge.pacing.budget import BudgetLimits
from judge.report.render import write_report
from judge.request import Sampling
from judge.run import Judged, JudgeSettings, run_judge
from neva.errors import ConfigError
from neva.ledger import layout
from neva.spec import VideoNevaJob
from neva.spec_judge import Judge, JudgeBudget
from neva.store import Store


def job_files(job: VideoNevaJob) -> InputFiles:
    """The files that a job has judged: its own answers are answer 2, each of `against` answer 1.

    Raises:
        ConfigError: the job has no judge.
    """
    judge = _judge_of(job)
    own = NamedAnswers(job.metadata.name, outputs_uri(job.spec.output.uri))
    return InputFiles(
        questions=judge.questions or job.spec.input.prompts,
        pairs=tuple((reference, own) for reference in _references(own.name, judge.against)),
        context=judge.context,
        rules=judge.rules,
        mode=Mode(judge.mode),
    )


def _references(own_name: str, uris: Sequence[str]) -> Iterator[NamedAnswers]:
    """A name of its own for each file."""
    taken = {own_name}
    for uri in uris:
        plain = name_of(uri)
        name, number = plain, 1
        while name in taken:
            name = f"{plain} (reference{f' {number}' if number > 1 else ''})"
            number += 1
        taken.add(name)
        yield NamedAnswers(name, uri)


def job_settings(job: VideoNevaJob) -> JudgeSettings:
    """Who judges a job, and how. Raises ConfigError when nobody does."""
    judge = _judge_of(job)
    return JudgeSettings(
        model=judge.model,
        endpoint=judge.endpoint,
        sampling=Sampling(max_tokens=judge.max_tokens),
        both_orders=judge.both_orders,
        connection=Connection(judge.timeout_seconds, judge.stream, judge.structured_output),
        limits=Limits(
            judge.concurrency,
            judge.requests_per_minute,
            judge.tokens_per_minute,
            _budget(judge.budget),
        ),
    )


def _budget(budget: JudgeBudget | None) -> BudgetLimits:
    if budget is None:
        return BudgetLimits()
    prices = budget.prompt_price or 0.0, budget.completion_price or 0.0
    return BudgetLimits(budget.requests, budget.tokens, budget.cost, *prices)


def judge_files(
    files: InputFiles,
    settings: JudgeSettings,
    *,
    store: Store,
    api_key: str | None,
    progress: Progress | None = None,
) -> Judged:
    """Judge answer files; reviews, scores and report are written under `store`.

    Raises:
        ConfigError: an input is missing or unusable, or (JudgeStopped) the key or model is wrong.
        StoreError: a file can't be read or written.
    """
    return judge_inputs(
        read_inputs(files), settings, store=store, api_key=api_key, progress=progress
    )


def judge_inputs(
    inputs: Inputs,
    settings: JudgeSettings,
    *,
    store: Store,
    api_key: str | None,
    progress: Progress | None = None,
) -> Judged:
    """The same for what was read already."""
    judged = run_judge(
        inputs.comparisons,
        settings,
        client=OpenAIJudge(settings.endpoint, api_key=api_key, connection=settings.connection),
        store=store,
        problems=inputs.problems,
        progress=progress,
    )
    write_report(store)
    return judged


def outputs_uri(output_uri: str) -> str:
    """URI of the answers of the run under `output_uri`."""
    return f"{output_uri.rstrip('/')}/{layout.OUTPUTS}"


def name_of(uri: str) -> str:
    """What to call an answer file that nobody named: its own name, or its folder's if the name
    says nothing (every run has an outputs.jsonl)."""
    path = PurePosixPath(uri)
    return path.parent.name if path.name == layout.OUTPUTS and path.parent.name else path.stem


def _judge_of(job: VideoNevaJob) -> Judge:
    if job.spec.judge is None:
        raise ConfigError("the job has no spec.judge: nothing to compare its answers with")
    return job.spec.judge
