"""The commands `compare` and `gate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from judge.cli import errors_as_exit_codes
from judge.compare.gate import check_all, parse_gate
from judge.compare.markdown import comparison_markdown, gate_markdown
from judge.compare.pairs import pair_up
from judge.compare.runs import JudgedRun, read_run
from neva.errors import ConfigError, NevaError
from neva.gate import Decision
from neva.store import open_store

EXIT_CODES = {Decision.GO: 0, Decision.NO_GO: 1, Decision.INCONCLUSIVE: 2}

compare_app = typer.Typer(add_completion=False)
gate_app = typer.Typer(add_completion=False)

_Markdown = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write it there, too, for a pull request.")
]


@compare_app.command()
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Outputs of judged runs; the first is the baseline.")
    ],
    markdown: _Markdown = None,
) -> None:
    """Compare judged runs question by question, with intervals and a paired test.

    Exit codes: 0 done; 2 a run can't be compared.
    """
    with errors_as_exit_codes():
        if len(runs) < 2:
            raise ConfigError("compare needs two runs or more")
        baseline, *others = _read(runs)
        text = "\n".join(comparison_markdown(pair_up(baseline, other)) for other in others)
    _say(text, markdown)


@gate_app.command()
def gate(
    run: Annotated[str, typer.Argument(help="Output of the judged run.")],
    config: Annotated[Path, typer.Option(help="Thresholds, YAML.")],
    baseline: Annotated[str | None, typer.Option(help="Output of the run to compare with.")] = None,
    markdown: _Markdown = None,
) -> None:
    """Decide by thresholds whether a judged run may pass.

    Exit codes: 0 GO; 1 NO-GO; 2 INCONCLUSIVE, or thresholds or runs can't be used.
    """
    try:
        thresholds = parse_gate(_bytes(config), str(config))
        runs = _read([run] if baseline is None else [run, baseline])
        pair = None if baseline is None else pair_up(runs[1], runs[0])
        decision, checked = check_all(thresholds, runs[0], pair)
    except NevaError as error:
        # Not 1, whatever it is: nothing was found to be worse.
        typer.echo(f"error: {error.message} ({error.reason})", err=True)
        raise typer.Exit(EXIT_CODES[Decision.INCONCLUSIVE]) from None
    text = gate_markdown(decision, checked)
    if pair is not None:
        text += "\n" + comparison_markdown(pair)
    _say(text, markdown)
    raise typer.Exit(EXIT_CODES[decision])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from error


def _read(uris: Sequence[str]) -> list[JudgedRun]:
    return [read_run(open_store(uri), name) for uri, name in zip(uris, _names(uris), strict=True)]


def _names(uris: Sequence[str]) -> list[str]:
    """The last parts of the URIs, as many as tell them apart."""
    parts = [uri.rstrip("/").split("/") for uri in uris]
    for num in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-num:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("a run can't be compared with itself")


def _say(text: str, markdown: Path | None) -> None:
    typer.echo(text)
    if markdown is not None:
        markdown.write_text(text, encoding="utf-8")
