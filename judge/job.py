"""Judges files, and the answers of a job: inputs in, scores and report out.

Callers: the `judge` command, and whatever runs the judge of a job as a process of its own.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from judge.asking import Progress
from judge.client import OpenAIJudge, Sampling
from judge.inputs import InputFiles, NamedAnswers, read_inputs
from judge.report.render import write_report
from judge.run import Judged, JudgeSettings, run_judge
from neva.errors import ConfigError
from neva.ledger import layout
from neva.spec import Judge, VideoNevaJob
from neva.store import Store, open_store


def job_files(job: VideoNevaJob) -> InputFiles:
    """The files that a job has judged: its own answers are answer 2, `against[0]` is answer 1.

    Raises:
        ConfigError: the job has no judge, or asks for more than this version can do.
    """
    judge = _judge_of(job)
    if len(judge.against) > 1:
        raise ConfigError("spec.judge.against: more than one answer file is not supported yet")
    reference = name_of(judge.against[0])
    name = job.metadata.name
    return InputFiles(
        questions=judge.questions or job.spec.input.prompts,
        answers=(
            NamedAnswers(
                reference if reference != name else f"{name} (reference)", judge.against[0]
            ),
            NamedAnswers(name, outputs_uri(job.spec.output.uri)),
        ),
        context=judge.context,
        rules=judge.rules,
    )


def job_settings(job: VideoNevaJob) -> JudgeSettings:
    """Who judges a job, and how. Raises ConfigError when nobody does."""
    judge = _judge_of(job)
    return JudgeSettings(
        model=judge.model,
        endpoint=judge.endpoint,
        sampling=Sampling(max_tokens=judge.max_tokens),
        both_orders=judge.both_orders,
        concurrency=judge.concurrency,
    )


def judge_job(
    job: VideoNevaJob, *, api_key: str | None, progress: Progress | None = None
) -> Judged:
    """Judge the answers of `job`, which must lie under its output, and write its report.

    Raises as `judge_files`.
    """
    store = open_store(job.spec.output.uri)
    return judge_files(
        job_files(job), job_settings(job), store=store, api_key=api_key, progress=progress
    )


def judge_files(
    files: InputFiles,
    settings: JudgeSettings,
    *,
    store: Store,
    api_key: str | None,
    progress: Progress | None = None,
) -> Judged:
    """Judge two answer files; reviews, scores and report are written under `store`.

    Raises:
        ConfigError: an input is missing or unusable, or (JudgeStopped) the key or model is wrong.
        StoreError: a file can't be read or written.
    """
    inputs = read_inputs(files)
    client = OpenAIJudge(settings.endpoint, api_key=api_key)
    try:
        judged = run_judge(
            inputs.comparison,
            settings,
            client=client,
            store=store,
            problems=inputs.problems,
            progress=progress,
        )
    finally:
        client.close()
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
