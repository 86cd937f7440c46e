"""As much of a Kubernetes client as a kubelet needs: JSON over HTTP by a kubeconfig."""

from __future__ import annotations

import base64
import logging
import tempfile
from pathlib import Path
from typing import Any

import requests
import urllib3
import yaml

Obj = dict[str, Any]

_log = logging.getLogger(__name__)
_ACCEPTED = (404, 409, 422)
_MERGE = "application/merge-patch+json"


class Client:
    """Synchronous calls. Not found, conflicts and refusals are None; other failures raise.

    What the server calls invalid is told by a warning: whoever waits for it waits in vain.

    `requests` would let REQUESTS_CA_BUNDLE win over the kubeconfig: the environment is not asked.
    """

    def __init__(self, kubeconfig: Path, user_agent: str = "test-kubelet") -> None:
        config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
        self._folder = kubeconfig.parent  # paths in it are relative to where it lies
        context = _named(config["contexts"], config["current-context"])["context"]
        cluster = _named(config["clusters"], context["cluster"])["cluster"]
        user = _named(config["users"], context["user"])["user"]
        self._server = cluster["server"].rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["User-Agent"] = user_agent
        self._files: list[Any] = []
        if token := user.get("token"):
            self._session.headers["Authorization"] = f"Bearer {token}"
        if ca := self._file(cluster, "certificate-authority"):
            self._session.verify = ca
        if cluster.get("insecure-skip-tls-verify"):
            self._session.verify = False
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        certificate = self._file(user, "client-certificate")
        key = self._file(user, "client-key")
        if certificate and key:
            self._session.cert = (certificate, key)

    def get(self, path: str) -> Obj | None:
        return self._call("GET", path)

    def items(self, path: str) -> list[Obj]:
        found = self._call("GET", path)
        return [] if found is None else found["items"]

    def create(self, path: str, obj: Obj) -> Obj | None:
        return self._call("POST", path, obj)

    def patch(self, path: str, patch: Obj) -> Obj | None:
        """Merge patch."""
        return self._call("PATCH", path, patch, _MERGE)

    def delete(self, path: str, options: Obj | None = None) -> Obj | None:
        return self._call("DELETE", path, options)

    def close(self) -> None:
        self._session.close()
        for file in self._files:
            file.close()

    def _call(
        self,
        method: str,
        path: str,
        body: Obj | None = None,
        content_type: str = "application/json",
    ) -> Obj | None:
        response = self._session.request(
            method,
            f"{self._server}{path}",
            json=body,
            headers={"Content-Type": content_type},
            timeout=30,
        )
        if response.status_code in _ACCEPTED:
            if response.status_code == 422:
                _log.warning("%s %s: %s", method, path, response.text[:1000])
            return None
        if not response.ok:
            raise OSError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        answer: Obj = response.json()
        return answer

    def _file(self, entry: Obj, name: str) -> str | None:
        if name in entry:
            return str(self._folder / str(entry[name]))
        if f"{name}-data" not in entry:
            return None
        file = tempfile.NamedTemporaryFile(suffix=".pem")  # noqa: SIM115  (kept while we live)
        file.write(base64.b64decode(entry[f"{name}-data"]))
        file.flush()
        self._files.append(file)
        return file.name


def _named(entries: list[Obj], name: str) -> Obj:
    return next(entry for entry in entries if entry["name"] == name)


def pod_path(namespace: str, name: str = "", subresource: str = "") -> str:
    path = f"/api/v1/namespaces/{namespace}/pods"
    return "/".join(part for part in (path, name, subresource) if part)


def job_path(namespace: str, name: str, subresource: str = "") -> str:
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}"
    return f"{path}/{subresource}" if subresource else path
