"""The command `logs`."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated

import typer

from controller.local.logs import run_log
from neva.errors import ConfigError
from neva.say import Format, FormatOption, errors_as_exit_codes, rendered_line
from neva.targets import (
    JobOnCluster,
    NamespaceOption,
    TargetArgument,
    import_kube,
    parse_target,
)

logs_app = typer.Typer(add_completion=False)

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_AGE = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")


@logs_app.command()
def logs(
    target: TargetArgument,
    namespace: NamespaceOption = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the run or the job ends.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(metavar="AGE", help="No older lines: 90s, 15m, 2h, 1d12h.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option(min=0, help="The last lines only, of each container.")
    ] = None,
    form: FormatOption = Format.TEXT,
) -> None:
    """Print what the workers of a run wrote on this machine, or all pods of a job on a cluster.

    Lines of pods begin with [POD/CONTAINER]; -o json|yaml makes each line a document. Exit codes:
    0 done; 1 the cluster or the store can't be had; 2 there is no such run, or no log of it here.
    """
    with errors_as_exit_codes():
        since_s = None if since is None else age_s(since)
        place = parse_target(target, namespace)
        try:
            if isinstance(place, JobOnCluster):
                _print_pods(place, follow, since_s, tail, form)
            else:
                for line in run_log(place, follow=follow, since_s=since_s, tail=tail):
                    _print(line if form is Format.TEXT else rendered_line({"line": line}, form))
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def age_s(text: str) -> float:
    """Seconds of 90s, 15m, 2h, 1d12h, or a plain number of them. Raises ConfigError."""
    match = _AGE.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ConfigError(f"--since {text!r}: write 90s, 15m, 2h or 1d12h")
    given = zip(_UNITS.values(), match.groups(), strict=True)
    return timedelta(**{unit: int(number) for unit, number in given if number}).total_seconds()


def _print(line: str) -> None:
    """One line at once, whole: several threads print."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _print_pods(
    job: JobOnCluster, follow: bool, since_s: float | None, tail: int | None, form: Format
) -> None:
    import_kube()
    from controller.cluster.jobs import UsersCluster
    from controller.cluster.logs import Container, PodLogs, Wanted

    def say(container: Container, line: str) -> None:
        if form is Format.TEXT:
            _print(f"[{container.pod}/{container.name}] {line}")
            return
        data = {"pod": container.pod, "container": container.name, "line": line}
        _print(rendered_line(data, form))

    wanted = Wanted(since_s, tail)
    PodLogs(UsersCluster(job.namespace), job, wanted, say).print_all(follow=follow)
