"""The `neva` command. Each command's module is imported only when the command is called, so that
`neva --help` needs none of them.
"""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class _LazyCommand(TyperCommand):
    """A command's name and its line in `neva --help`; the rest is loaded when it is called."""

    def __init__(
        self, name: str, module: str, app: str, words: str, extra: str | None = None
    ) -> None:
        super().__init__(name, help=words)
        self._extra = extra or module.partition(".")[0]
        self._module = module
        self._app = app

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **extra: Any) -> Any:
        return self._load().make_context(info_name, args, *rest, **extra)

    def _load(self) -> Any:
        try:
            module = importlib.import_module(self._module)
        except ModuleNotFoundError as error:
            typer.echo(
                f"neva {self.name}: {error.name} is not installed here; "
                f"pip install 'neva-batch[{self._extra}]'",
                err=True,
            )
            raise typer.Exit(1) from error
        return typer.main.get_command(getattr(module, self._app))


_COMMANDS = {
    command.name: command
    for command in (
        _LazyCommand("run", "controller.local.cli", "run_app", "Run a job file on this machine."),
        _LazyCommand("status", "controller.status.cli", "status_app", "Show how far a run is."),
        _LazyCommand("ui", "controller.ui.cli", "ui_app", "Show jobs live in a browser.", "ui"),
        _LazyCommand(
            "suspend", "controller.orders_cli", "suspend_app", "Stop a run's workers for a while."
        ),
        _LazyCommand("resume", "controller.orders_cli", "resume_app", "Let a run go on."),
        _LazyCommand(
            "cancel", "controller.orders_cli", "cancel_app", "End a run; finished rows stay."
        ),
        _LazyCommand("retry", "controller.retry.cli", "retry_app", "Ask failed rows again."),
        _LazyCommand("operator", "controller.operator.cli", "app", "Run jobs of a cluster."),
        _LazyCommand(
            "nightly", "controller.nightly.cli", "app", "Run a job once per date, on a cluster."
        ),
        _LazyCommand("prepare", "controller.pods", "prepare_app", "Validate and split (a pod)."),
        _LazyCommand("finish", "controller.pods", "finish_app", "Merge, report, judge (a pod)."),
        _LazyCommand("worker", "worker.cli", "app", "Answer the shards of a run (worker pod)."),
        _LazyCommand("inspect", "worker.checkpoint.cli", "inspect_app", "Say what a model is."),
        _LazyCommand(
            "convert",
            "worker.checkpoint.cli",
            "convert_app",
            "Hugging Face LLaVA to .nemo, or back.",
        ),
        _LazyCommand("judge", "judge.cli", "judge_app", "Score a run's answers with an LLM judge."),
        _LazyCommand(
            "mixtral-eval", "judge.mixtral_eval", "app", "NeMo's mixtral_eval.py, by its own flags."
        ),
        _LazyCommand("compare", "judge.compare.cli", "compare_app", "Compare judged runs."),
        _LazyCommand(
            "gate", "judge.compare.cli", "gate_app", "Let a judged run pass, or not, by thresholds."
        ),
        _LazyCommand("report", "judge.cli", "report_app", "Write the HTML report of a run."),
    )
}


class _LazyGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [str(name) for name in _COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return _COMMANDS.get(cmd_name)


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Batch inference and evaluation of Video NeVA models, one answer per prompt.",
)


@app.callback()
def _root() -> None:
    """Group options come here."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
