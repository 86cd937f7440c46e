"""The Kubernetes API, one request at a time: plain JSON in and out, own errors.

Runs on the official client's configuration, authentication and connection pool. Its models are left
out: they cost a conversion of every object and drop fields that they don't know. Imported only
where a cluster is asked: the library is no small one, and not every role has it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import urllib3
import yaml
from kubernetes import client as kubernetes_client
from kubernetes import config as kubernetes_config
from kubernetes.client.exceptions import ApiException

from neva.errors import ConfigError, NevaError
from neva.reasons import Reason

Json = dict[str, Any]

KUBECONFIG = "KUBECONFIG"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
_JSON = "application/json"
_TIMEOUT_S = (5, 15)
# What the client raises for a kubeconfig that is none.
_UNUSABLE = (kubernetes_config.ConfigException, yaml.YAMLError, TypeError, AttributeError)
_NOWHERE = (
    "no kubeconfig is here (KUBECONFIG, ~/.kube/config), and no service account's token as in a pod"
)
_POD_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_NAMESPACE_FILE = _POD_FOLDER / "namespace"
_TOKEN_FILE = _POD_FOLDER / "token"


class ApiError(NevaError):
    """The API server refuses, or can't be reached (status 0)."""

    reason = Reason.CLUSTER_UNAVAILABLE

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, retryable=status in (0, 409, 429) or status >= 500)
        self.status = status


class Transport(Protocol):
    """One request. Raises ApiError."""

    def __call__(
        self, method: str, path: str, body: Json | None, content_type: str | None
    ) -> Json: ...


class ClientTransport:
    """Requests through the official client."""

    def __init__(self, client: kubernetes_client.ApiClient) -> None:
        self._client = client

    @property
    def client(self) -> kubernetes_client.ApiClient:
        return self._client

    @classmethod
    def from_environment(cls, *, pool_size: int = 16) -> ClientTransport:
        """By KUBECONFIG where that is set, else by the pod's service account.

        Raises:
            ConfigError: there is neither, or it is unusable.
        """
        return cls._loaded(KUBECONFIG in os.environ, pool_size)

    @classmethod
    def of_user(cls) -> ClientTransport:
        """As kubectl finds it: KUBECONFIG, else ~/.kube/config, else the pod's service account.

        Raises:
            ConfigError: there is none of them, or it is unusable.
        """
        return cls._loaded(has_kubeconfig(), pool_size=16)

    @classmethod
    def _loaded(cls, by_kubeconfig: bool, pool_size: int) -> ClientTransport:
        configuration = kubernetes_client.Configuration()
        load: Any = kubernetes_config.load_incluster_config
        where = {}
        if by_kubeconfig:
            load, where = kubernetes_config.load_kube_config, {"config_file": _kubeconfig()}
        try:
            load(client_configuration=configuration, **where)
        except _UNUSABLE as error:
            words = _why_unusable(error) if by_kubeconfig else _NOWHERE
            raise ConfigError(f"no access to a cluster: {words}") from error
        configuration.connection_pool_maxsize = pool_size
        configuration.retries = urllib3.Retry(total=0)
        return cls(kubernetes_client.ApiClient(configuration))

    def __call__(self, method: str, path: str, body: Json | None, content_type: str | None) -> Json:
        return self._ask(method, path, body, content_type, _JSON)

    def get_table(self, path: str) -> Json:
        """The server's own table of what lies there: kubectl's columns. Raises ApiError."""
        return self._ask("GET", path, None, None, _TABLE)

    def stream(self, path: str) -> Iterator[bytes]:
        """The lines of an answer that may go on for long, without their ends. Raises ApiError."""
        answer = self._request("GET", path, None, {"Accept": "*/*"}, (_TIMEOUT_S[0], None))
        response: Any = answer.response
        try:
            if not 200 <= answer.status <= 299:
                raise ApiError(answer.status, _message(answer.read(), answer.reason or ""))
            begun = b""
            for chunk in response.stream(1 << 16):
                *whole, begun = (begun + chunk).split(b"\n")
                yield from whole
            if begun:
                yield begun
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"GET {path}: {error}") from error
        finally:
            response.close()

    def _ask(
        self, method: str, path: str, body: Json | None, content_type: str | None, accept: str
    ) -> Json:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type or _JSON
        answer = self._request(method, path, body, headers, _TIMEOUT_S)
        try:
            data = answer.read()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        if not 200 <= answer.status <= 299:
            raise ApiError(answer.status, _message(data, answer.reason or ""))
        return _object(data, answer, f"{method} {path}")

    def _request(
        self, method: str, path: str, body: Json | None, headers: dict[str, str], timeout_s: Any
    ) -> Any:
        verb, url, sent_headers, _, _ = self._client.param_serialize(
            method, path, header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            return self._client.call_api(
                verb, url, sent_headers, body, [], _request_timeout=timeout_s
            )
        except ApiException as error:
            raise ApiError(int(error.status or 0), _message(error.body, str(error))) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error


def own_namespace() -> str:
    """The namespace that nothing else names: the context's, the pod's, or `default`.

    Raises:
        ConfigError: the kubeconfig is unusable.
    """
    if has_kubeconfig():
        contexts: Any = kubernetes_config.list_kube_config_contexts  # it has no types
        try:
            _, active = contexts(_kubeconfig())
        except _UNUSABLE as error:
            raise ConfigError(f"no access to a cluster: {_why_unusable(error)}") from error
        return str(active["context"].get("namespace") or "default")
    if _NAMESPACE_FILE.exists():
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    return "default"


def _why_unusable(error: Exception) -> str:
    """What is wrong with the kubeconfig."""
    path = _kubeconfig()
    if not any(Path(part).exists() for part in path.split(os.pathsep)):
        return f"{path} does not exist"
    if isinstance(error, kubernetes_config.ConfigException):
        return f"{path}: {str(error).rstrip('.')}"
    return f"{path} is no kubeconfig"


def has_kubeconfig() -> bool:
    """Whether kubectl would find one here."""
    return KUBECONFIG in os.environ or Path(_kubeconfig()).exists()


def has_pod_token() -> bool:
    """Whether this is a pod whose service account may ask the API server."""
    return _TOKEN_FILE.exists()


def _kubeconfig() -> str:
    """Said anew at each call: the library looks at the environment when it is imported."""
    return os.environ.get(KUBECONFIG) or str(Path.home() / ".kube" / "config")


def _object(data: bytes, answer: Any, asked: str) -> Json:
    """The object of a good answer.

    Raises:
        ApiError: it is none. What stands before a cluster answers so, with a page to log in.
    """
    if not data:
        return {}
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict):
        return found
    kind = answer.headers.get("Content-Type") or "an unknown kind"
    raise ApiError(
        answer.status,
        f"{asked}: the answer is no JSON object, but {kind}: what answers is no API server; is "
        "there a proxy before it that wants a login? Correct `server` in the kubeconfig, or log in",
    )


def _message(body: object, otherwise: str) -> str:
    try:
        return str(orjson.loads(body)["message"])  # type: ignore[arg-type]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return otherwise
