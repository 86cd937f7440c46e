"""The command `ui`."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Annotated

import typer

from controller.ui.app import make_app
from controller.ui.local import LocalRuns
from controller.ui.server import LiveServer, sigterm_as_ctrl_c
from controller.ui.source import Source
from neva.errors import ConfigError, NevaError
from neva.say import errors_as_exit_codes
from neva.targets import JobOnCluster, import_kube, parse_target

ui_app = typer.Typer(add_completion=False)


@ui_app.command()
def ui(
    outputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OUTPUT]...", help="Runs' output.uris or folders; none: a cluster."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; :: is all of them, IPv4 and IPv6.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8321,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="Name by which browsers may ask for it. By default localhost on a loopback "
            "address, else any."
        ),
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("-n", "--namespace", help="Namespace to show; may be given several times."),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("-A", "--all-namespaces", help="Show the jobs of the whole cluster.")
    ] = False,
    interval_s: Annotated[
        float, typer.Option("--interval", min=0.5, help="Least seconds between two looks at a job.")
    ] = 2.0,
) -> None:
    """Show jobs live in a browser: progress, throughput, failures, the last answers.

    It only reads, and asks nobody for a password: whoever reaches it sees everything it shows.
    Exit codes: 0 told to stop; 1 the port or the cluster can't be had; 2 wrong arguments.
    """
    with errors_as_exit_codes(), sigterm_as_ctrl_c():
        try:
            source = _source(outputs or [], namespace or [], all_namespaces)
            app = make_app(source, interval_s, allowed_hosts(host, allow_host or []))
            with listening(host, port) as listener:
                # To the standard output: programs that start it want to know, too.
                typer.echo(f"http://{_as_in_url(host)}:{listener.getsockname()[1]}/")
                LiveServer(app).run(sockets=[listener])
        except KeyboardInterrupt:
            raise typer.Exit(0) from None


def _source(outputs: Sequence[str], namespaces: Sequence[str], everywhere: bool) -> Source:
    if outputs:
        if namespaces or everywhere:
            raise ConfigError("namespaces are a cluster's; give either them or outputs")
        for output in outputs:
            if isinstance(parse_target(output), JobOnCluster):
                words = "a cluster's jobs are shown without naming them: neva ui -n NAMESPACE"
                raise ConfigError(f"{output}: {words}")
        return LocalRuns(outputs)
    kube = import_kube()
    # Imported here: a run folder needs no cluster library.
    from controller.operator.api import KubeApi
    from controller.ui.cluster import ClusterJobs

    try:
        api = KubeApi(kube.ClientTransport.of_user())
        chosen = None if everywhere else list(namespaces) or [kube.own_namespace()]
    except ConfigError as error:
        words = f"{error.message}; name run folders or output URIs to follow them"
        raise ConfigError(words) from error
    return ClusterJobs(api, chosen)


def allowed_hosts(host: str, named: Sequence[str]) -> list[str]:
    """The names by which browsers may ask, as they write them: an IPv6 address has brackets.

    Args:
        host: what is listened on.
        named: those that the user gave; they alone hold then.

    Raises ConfigError for a name that can't be one.
    """
    for name in named:
        if "*" in name.removeprefix("*.") and name != "*":
            raise ConfigError(f"--allow-host {name}: a * is all, or the beginning of *.example.com")
    names = named or (["localhost", host] if _is_loopback(host) else ["*"])
    return [_as_in_url(name) for name in names]


def _as_in_url(name: str) -> str:
    try:
        address = ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return name
    return f"[{address}]" if address.version == 6 else str(address)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening(host: str, port: int) -> socket.socket:
    """A socket for the server. `::` is every address there is, also where IPv6 is switched off."""
    try:
        if host == "::" and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, dualstack_ipv6=host == "::")
    except OSError as error:
        raise NevaError(f"can't listen on {host}, port {port}: {error.strerror}") from error
