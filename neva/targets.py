"""What a command is pointed at: a run by its output, or a job on a cluster.

    s3://eval/runs/kitchen/   runs/kitchen   kitchen     a run's output
    vnj/kitchen                                          a job on the cluster
    kitchen, with -n eval                                the same

The words alone decide, never what happens to be there: `vnj/` before a name (as kubectl writes
it), or a namespace given with a bare name, makes it a job; everything else is a URI or a folder.
A folder called vnj is written ./vnj/kitchen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from neva.errors import ConfigError
from neva.extras import install_words
from neva.reasons import Reason

if TYPE_CHECKING:
    from neva.spec import VideoNevaJob

_METADATA = ("name", "namespace", "labels")
# As kubectl takes and prints them.
_KINDS = ("vnj", "videonevajob", "videonevajobs", "videonevajob.neva-batch.dev")

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="OUT", help="The run's output.uri or its folder, or vnj/NAME: a job on the cluster."
    ),
]
NamespaceOption = Annotated[
    str | None,
    typer.Option(
        "-n", "--namespace", help="The job's, on the cluster; a bare OUT is then a job's name."
    ),
]


@dataclass(frozen=True, slots=True)
class JobOnCluster:
    """A VideoNevaJob.

    Attributes:
        namespace: None: the kubeconfig's, or the pod's own.
    """

    name: str
    namespace: str | None = None

    @property
    def words(self) -> str:
        return f"vnj/{self.name}" + (f" -n {self.namespace}" if self.namespace else "")


def parse_target(text: str, namespace: str | None = None) -> JobOnCluster | str:
    """The job that is meant, or the URI or path of an output.

    Raises:
        ConfigError: no name of a job.
    """
    kind, slash, name = text.partition("/")
    if slash and kind.lower() in _KINDS:
        if not name or "/" in name:
            raise ConfigError(f"{text!r} names no job: write vnj/NAME, or ./{text} for a folder")
        return JobOnCluster(name, namespace)
    if namespace is not None and not slash and text not in (".", ".."):
        return JobOnCluster(text, namespace)
    return text


def output_of(text: str, namespace: str | None = None) -> str:
    """Where the run that `text` names writes: of a job on a cluster its spec.output.uri.

    Raises:
        ConfigError: there is no such job, or no access to a cluster.
        ApiError: the cluster can't be asked.
    """
    target = parse_target(text, namespace)
    return target if isinstance(target, str) else output_uri(read_job(target))


def output_uri(body: dict[str, Any]) -> str:
    """Where a job writes. Raises ConfigError when it says nothing of it."""
    try:
        return str(body["spec"]["output"]["uri"])
    except (KeyError, TypeError) as error:
        raise ConfigError(f"job {body['metadata']['name']} has no spec.output.uri") from error


def read_job(job: JobOnCluster) -> dict[str, Any]:
    """The job as the API server has it, by the user's own access.

    Raises: as `output_of`.
    """
    kube = import_kube()
    namespace = job.namespace or kube.own_namespace()
    return find_job(kube.ClientTransport.of_user(), job, namespace)


def find_job(
    call: Callable[..., dict[str, Any]], job: JobOnCluster, namespace: str
) -> dict[str, Any]:
    """The job through `call`, a `neva.kube.Transport`. Raises as `output_of`."""
    from neva.kube import ApiError
    from neva.spec import API_VERSION

    place = f"namespaces/{quote(namespace, safe='')}/videonevajobs/{quote(job.name, safe='')}"
    try:
        return call("GET", f"/apis/{API_VERSION}/{place}", None, None)
    except ApiError as error:
        if error.status != 404:
            raise
        raise ConfigError(
            f"there is no VideoNevaJob {job.name} in the namespace {namespace}: {error.message}; "
            "`neva status -A` lists what there is",
            reason=Reason.OBJECT_NOT_FOUND,
        ) from error


def job_of(body: dict[str, Any], words: str) -> VideoNevaJob:
    """The job in what an API server has of it, without what the cluster wrote there.

    Raises:
        ConfigError: it is no valid one, to this version.
    """
    from neva.job_file import parse_job

    metadata = {key: body["metadata"][key] for key in _METADATA if key in body["metadata"]}
    data = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata}
    return parse_job({**data, "spec": body["spec"]}, words)


def import_kube() -> Any:
    """`neva.kube`. Raises ConfigError where the cluster's library is not installed."""
    try:
        from neva import kube
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed here, and a cluster is asked through it: "
            f"{install_words('controller')}; or name the run's output.uri"
        ) from error
    return kube
