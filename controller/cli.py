"""The `neva` command. Each command's module is imported only when the command is called, so that
`neva --help` needs none of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from neva.extras import install_words
from neva.say import DEBUG_VARIABLE, is_debugging

EXIT_FAULT = 70  # of the program itself; os.EX_SOFTWARE
_DEBUG = "--debug"
# Their logs are all that is left of a pod: with every traceback.
_OF_PODS = ("operator", "nightly", "prepare", "finish", "worker")


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
        args = _without_debug(args)
        return self._load().make_context(info_name, args, *rest, **extra)

    def _load(self) -> Any:
        try:
            module = importlib.import_module(self._module)
        except ModuleNotFoundError as error:
            typer.echo(
                f"neva {self.name}: {error.name} is not installed here; "
                f"{install_words(self._extra)}",
                err=True,
            )
            raise typer.Exit(1) from error
        if self.name not in _OF_PODS:
            _log_to_stderr()
        return typer.main.get_command(getattr(module, self._app))


def _log_to_stderr() -> None:
    """What people's commands print is theirs alone: a log line in it would break a program."""
    if "structlog" not in sys.modules:
        return
    import logging

    import structlog

    level = logging.DEBUG if is_debugging() else logging.WARNING
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


_COMMANDS = {
    command.name: command
    for command in (
        _LazyCommand("run", "controller.local.cli", "run_app", "Run a job file on this machine."),
        _LazyCommand(
            "evaluate",
            "controller.evaluate.cli",
            "evaluate_app",
            "NeMo's neva_evaluation.py, by its own command line.",
            "controller,evaluate",
        ),
        _LazyCommand("submit", "controller.submit.cli", "submit_app", "Apply a job to a cluster."),
        _LazyCommand("status", "controller.status.cli", "status_app", "Show how far a run is."),
        _LazyCommand("ui", "controller.ui.cli", "ui_app", "Show jobs live in a browser.", "ui"),
        _LazyCommand(
            "logs", "controller.logs_cli", "logs_app", "Print what a run's workers or pods wrote."
        ),
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
        _LazyCommand(
            "doctor",
            "controller.doctor.cli",
            "doctor_app",
            "Look at all that a job relies on; what to do.",
        ),
        _LazyCommand(
            "completion", "controller.about_cli", "completion_app", "Print a shell's completion."
        ),
        _LazyCommand("version", "controller.about_cli", "version_app", "Say which version it is."),
    )
}


class _LazyGroup(TyperGroup):
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**{**attributes, "commands": dict(_COMMANDS)})

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)  # in our order


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Batch inference and evaluation of Video NeVA models, one answer per prompt.",
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from controller.about_cli import version_words

        typer.echo(version_words())
        raise typer.Exit


def _debug(wanted: bool) -> None:
    if wanted:
        os.environ[DEBUG_VARIABLE] = "1"  # for other roles' processes, too


@app.callback()
def _root(
    debug: Annotated[
        bool,
        typer.Option(
            _DEBUG, callback=_debug, help="Errors with their traceback. May stand anywhere."
        ),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    del debug, version


def _without_debug(args: list[str]) -> list[str]:
    """`--debug` works behind a command, too, which knows nothing of it."""
    end = args.index("--") if "--" in args else len(args)
    if _DEBUG not in args[:end]:
        return args
    _debug(True)
    return [word for word in args[:end] if word != _DEBUG] + args[end:]


def main() -> None:
    """Run the command that the arguments name; a fault of the program is one line, too."""
    try:
        app()
    except Exception as error:
        if is_debugging() or any(word in _OF_PODS for word in sys.argv[1:2]):
            raise
        words = " ".join(f"{type(error).__name__}: {error}".split())
        typer.echo(f"error (InternalError): {words}; `neva --debug …` tells where", err=True)
        sys.exit(EXIT_FAULT)


if __name__ == "__main__":
    main()
