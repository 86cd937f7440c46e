"""The command `mixtral-eval`: NeMo's script by its own flags, its table, our arithmetic.

Exit codes as `judge`. Replies, scores and the report lie in a folder beside `--output`, named after
it (`output.judge/`): run again it continues, and no file has to be removed first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from typer.core import TyperCommand

from judge.asking import Limits
from judge.cli import (
    API_KEY_VARIABLE,
    check_endpoint,
    end_without_verdict,
    progress_bar,
    sigterm_as_exit,
)
from judge.client import Connection
from judge.inputs import InputFiles, NamedAnswers, read_inputs
from judge.job import judge_inputs, name_of
from judge.nemo_compat import (
    answer_id,
    chunk,
    nemo_means,
    nemo_reviews,
    nemo_table,
    our_table,
)
from judge.plan import Comparison
from judge.request import Sampling
from judge.reviews import REVIEWS
from judge.run import JudgeSettings
from judge.table import precision
from neva.errors import ConfigError
from neva.say import Format, FormatOption, errors_as_exit_codes, tell
from neva.spec_judge import Judge
from neva.store import Store, open_store

_LISTS = ("--model-name-list", "--responses-list")


class Compat(StrEnum):
    """Whose arithmetic is printed beside ours."""

    NEMO = "nemo"


class _ListsOfWords(TyperCommand):
    """`--responses-list a b`, as argparse has it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, repeated(args, _LISTS))


def repeated(args: Sequence[str], lists: Sequence[str]) -> list[str]:
    """`--list a b` as `--list a --list b`."""
    found: list[str] = []
    current: str | None = None
    is_first = False
    for word in args:
        if word.startswith("--"):
            current, is_first = (word if word in lists else None), True
        elif current is not None and not is_first:
            found.append(current)
        else:
            is_first = False
        found.append(word)
    return found


app = typer.Typer(add_completion=False)


@app.command(cls=_ListsOfWords)
def mixtral_eval(
    responses_list: Annotated[
        list[str], typer.Option(metavar="FILE FILE…", help="Answer files; the first is model 1.")
    ],
    model_name_list: Annotated[
        list[str] | None, typer.Option(metavar="NAME NAME…", help="A name for each of them.")
    ] = None,
    media_type: Annotated[
        str, typer.Option(help="Taken and not needed: files say themselves what they are about.")
    ] = "image",
    question_file: Annotated[str, typer.Option(help="Questions.")] = "question.jsonl",
    answers_dir: Annotated[
        Path, typer.Option(help="The answers, as judged, are written here as NAME_answer.jsonl.")
    ] = Path("answers"),
    num_chunks: Annotated[int, typer.Option(min=1)] = 1,
    chunk_idx: Annotated[int, typer.Option(min=0, help="Judge only this chunk.")] = 0,
    context_file: Annotated[str, typer.Option(help="Captions.")] = "context.jsonl",
    rule_file: Annotated[
        str | None, typer.Option(help="rule.json where that exists, else our rubric.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Reviews, one a line.")] = Path("output.json"),
    max_tokens: Annotated[int, typer.Option(min=1)] = 1024,
    endpoint: Annotated[str | None, typer.Option(help="OpenAI-compatible base URL.")] = None,
    model: Annotated[str | None, typer.Option(help="Model that judges.")] = None,
    both_orders: Annotated[
        bool, typer.Option("--both-orders/--one-order", help="The original asks in one.")
    ] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Most requests at once.")] = 8,
    requests_per_minute: Annotated[
        float | None, typer.Option(min=0.01, help="The endpoint's limit.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Ask again where the reply held no verdict.")
    ] = False,
    compat: Annotated[
        Compat | None, typer.Option(help="Print the original's own arithmetic, too.")
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Have a judge compare two models' answers, as NeMo's mixtral_eval.py; key from API_TOKEN."""
    del media_type
    with errors_as_exit_codes():
        check_endpoint(endpoint)
        names = _names(model_name_list or [], responses_list)
        first, *others = map(NamedAnswers, names, responses_list)
        rules = rule_file or ("rule.json" if Path("rule.json").exists() else None)
        files = InputFiles(
            question_file, tuple((first, other) for other in others), context_file, rules
        )
        inputs = read_inputs(files)
        if chunk_idx >= num_chunks:
            raise ConfigError(f"--chunk-idx {chunk_idx}: there are {num_chunks} chunks, from 0")
        inputs = replace(
            inputs,
            comparisons=tuple(
                replace(c, questions=chunk(c.questions, num_chunks, chunk_idx))
                for c in inputs.comparisons
            ),
        )
        if not inputs.comparisons[0].questions:
            raise ConfigError(f"chunk {chunk_idx} of {num_chunks} holds no question")
        fields = Judge.model_fields
        settings = JudgeSettings(
            model=model or fields["model"].default,
            endpoint=endpoint or fields["endpoint"].default,
            sampling=Sampling(max_tokens=max_tokens),
            both_orders=both_orders,
            # In words alone, as the original: its other tools read the reviews.
            connection=Connection(structured=False),
            limits=Limits(concurrency, requests_per_minute),
            retry_failed=retry_failed,
        )
        ids = _write_answers(inputs.comparisons, answers_dir)
        store = open_store(str(output.with_suffix(".judge")))
        with sigterm_as_exit(), progress_bar() as progress:
            judged = judge_inputs(
                inputs,
                settings,
                store=store,
                api_key=os.environ.get(API_KEY_VARIABLE),
                progress=progress,
            )
        reviews = _reviews(store)
        _write_reviews(output, reviews, ids)
    records = [judged.record, *judged.record["others"]]
    for record in records:
        mine = [review for review in reviews if [*review["answers"]] == record["answers"]]
        if compat is Compat.NEMO:
            record["nemo"] = nemo_means(mine)
        if form is Format.TEXT:
            if len(records) > 1:
                typer.echo(f"{record['answers'][0]} {record['answers'][1]}")
            typer.echo(our_table(record))
            if compat is Compat.NEMO:
                typer.echo("as NeMo reckons: one order, failed reviews averaged in as -1")
                typer.echo(nemo_table(mine))
        if rules is None:
            typer.echo("judged by our own rubric: there is no rule.json here", err=True)
        for name, num in record["failed_by_reason"].items():
            typer.echo(f"without a verdict, in no mean: {name} {num}", err=True)
        for sentence in precision(record):
            typer.echo(sentence, err=True)
    report = store.uri_of("report.html")
    typer.echo(f"report: {report}", err=True)
    tell({**judged.record, "reviews": str(output), "report": report}, form)
    if not any(record["num_judged"] for record in records):
        end_without_verdict(store)


def _names(given: Sequence[str], files: Sequence[str]) -> list[str]:
    """A name for each file. The original dies, or drops a file, when there are fewer names."""
    if len(files) < 2:
        raise ConfigError("--responses-list needs two files or more")
    names = list(given) or [name_of(file) for file in files]
    if len(names) != len(files):
        raise ConfigError(f"--model-name-list has {len(names)} names for {len(files)} files")
    if len(set(names)) != len(names):
        raise ConfigError(f"--model-name-list: each model needs a name of its own, not {names}")
    return names


def _write_answers(comparisons: Sequence[Comparison], folder: Path) -> dict[str, dict[str, str]]:
    """The original's answer files; returns answer ids by model and question id."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {answers.name: answers for c in comparisons for answers in c.answers}
    ids: dict[str, dict[str, str]] = {}
    for name, answers in sets.items():
        lines: list[bytes] = []
        ids[name] = {}
        for question in comparisons[0].questions:
            text = answers.texts.get(question.key)
            if text is None:
                continue
            ids[name][question.key] = answer_id(name, question.key, text)
            record: dict[str, Any] = {
                "question_id": question.question_id,
                "prompt": question.text,
                "text": text,
                "answer_id": ids[name][question.key],
                "model_id": name,
                "metadata": {},
            }
            lines.append(orjson.dumps(record) + b"\n")
        # By the model's name: two response files may have one basename.
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
        (folder / f"{safe}_answer.jsonl").write_bytes(b"".join(lines))
    return ids


def _reviews(store: Store) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in store.get(REVIEWS).splitlines()]


def _write_reviews(
    output: Path, reviews: Iterable[dict[str, Any]], ids: dict[str, dict[str, str]]
) -> None:
    lines = (orjson.dumps(record) + b"\n" for record in nemo_reviews(reviews, ids))
    output.write_bytes(b"".join(lines))
