"""Plain requests to an API server, for tests that care about every word of an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import requests

Obj = dict[str, Any]

JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
VNJS = "/apis/neva-batch.dev/v1alpha1/namespaces/default/videonevajobs"

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"


class Http:
    """One user's requests."""

    def __init__(self, url: str, user: str = "tester") -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.headers["Authorization"] = f"Bearer {user}"

    def is_gone(self, path: str) -> bool:
        return self.call("GET", path)[0] == 404

    def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """(status, document)."""
        response = self._session.request(
            method,
            self._url + path,
            data=None if body is None else json.dumps(body),
            headers={"Content-Type": content_type},
            timeout=30,
        )
        return response.status_code, response.json()

    def good(self, method: str, path: str, body: object = None, **options: Any) -> Any:
        """The document of a request that must succeed."""
        status, document = self.call(method, path, body, **options)
        assert status in (200, 201), document
        return document

    def get(self, path: str) -> Any:
        return self.good("GET", path)

    def create(self, path: str, obj: Obj) -> Any:
        return self.good("POST", path, obj)

    def apply(
        self, path: str, obj: Obj, manager: str = "tester", force: bool = False
    ) -> tuple[int, Any]:
        query = f"?fieldManager={manager}&force={str(force).lower()}"
        return self.call("PATCH", path + query, obj, APPLY)

    def watch(self, path: str, **query: object) -> Iterator[Obj]:
        """The events of a watch, until the server ends it."""
        parameters = {"watch": "true", "timeoutSeconds": 5, **query}
        with self._session.get(
            self._url + path, params=parameters, stream=True, timeout=30
        ) as response:
            assert response.status_code == 200, response.text
            for line in response.iter_lines():
                yield json.loads(line)

    def close(self) -> None:
        self._session.close()


def config_map(name: str, **data: str) -> Obj:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def batch_job(name: str, *command: str, **spec: Any) -> Obj:
    """A Job of one container named `main`."""
    container = {"name": "main", "image": "none", "command": list(command) or ["true"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def pod(name: str, *command: str, **spec: Any) -> Obj:
    container = {"name": "main", "image": "none", "command": list(command) or ["true"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def owned_by(obj: Obj, owner: Obj, *, blocks: bool = False) -> Obj:
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": blocks,
    }
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [reference]}}
