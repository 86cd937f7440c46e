"""The commands `compare` and `gate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from judge.compare.gate import check_all, parse_gate
from judge.compare.markdown import comparison_markdown, gate_markdown
from judge.compare.pairs import as_dict, pair_up
from judge.compare.runs import JudgedRun, read_run
from neva.errors import ConfigError
from neva.gate import Decision
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered
from neva.store import open_store
from neva.targets import NamespaceOption, TargetArgument, output_of

EXIT_CODES = {Decision.GO: 0, Decision.NO_GO: 1, Decision.INCONCLUSIVE: 2}

compare_app = typer.Typer(add_completion=False)
gate_app = typer.Typer(add_completion=False)

_Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write it there, too, for a pull request.")
]


@compare_app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUT OUT…", help="Judged runs, or vnj/NAME of jobs; the first is the baseline."
        ),
    ],
    namespace: NamespaceOption = None,
    markdown: _Markdown = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Compare judged runs question by question, with intervals and a paired test.

    Exit codes: 0 done; 2 a run can't be compared.
    """
    with errors_as_exit_codes():
        if len(runs) < 2:
            raise ConfigError("compare needs two runs or more")
        baseline, *others = _read(runs, namespace)
        pairs = [pair_up(baseline, other) for other in others]
    text = "\n".join(map(comparison_markdown, pairs))
    _say(text, markdown, form, {"comparisons": [as_dict(pair) for pair in pairs]})


@gate_app.command()
def gate(
    run: TargetArgument,
    config: Annotated[Path, typer.Option(help="Thresholds, YAML.")],
    baseline: Annotated[
        str | None, typer.Option(metavar="OUT", help="The run to compare with.")
    ] = None,
    namespace: NamespaceOption = None,
    markdown: _Markdown = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Decide by thresholds whether a judged run may pass.

    Exit codes: 0 GO; 1 NO-GO; 2 INCONCLUSIVE, or thresholds or runs can't be used.
    """
    # Never 1: nothing was found to be worse.
    unusable = EXIT_CODES[Decision.INCONCLUSIVE]
    with errors_as_exit_codes(wrong=unusable, failed=unusable):
        thresholds = parse_gate(_bytes(config), str(config))
        runs = _read([run] if baseline is None else [run, baseline], namespace)
        pair = None if baseline is None else pair_up(runs[1], runs[0])
        decision, checked = check_all(thresholds, runs[0], pair)
    text = gate_markdown(decision, checked)
    if pair is not None:
        text += "\n" + comparison_markdown(pair)
    checks = [{**asdict(one), "decision": one.decision.value} for one in checked]
    facts: dict[str, Any] = {"decision": decision.value, "checks": checks}
    _say(text, markdown, form, facts | ({"comparison": as_dict(pair)} if pair else {}))
    raise typer.Exit(EXIT_CODES[decision])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error


def _read(targets: Sequence[str], namespace: str | None) -> list[JudgedRun]:
    uris = [output_of(target, namespace) for target in targets]
    return [read_run(open_store(uri), name) for uri, name in zip(uris, _names(uris), strict=True)]


def _names(uris: Sequence[str]) -> list[str]:
    """The last parts of the URIs, as many as tell them apart."""
    parts = [uri.rstrip("/").split("/") for uri in uris]
    for num in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-num:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("a run can't be compared with itself")


def _say(text: str, markdown: Path | None, form: Format, facts: dict[str, Any]) -> None:
    typer.echo(text if form is Format.TEXT else rendered(facts, form))
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
