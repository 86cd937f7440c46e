"""The Kubernetes API as the operator uses it: few calls on `neva.kube`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from controller.operator.names import (
    DROP_FOLDERS,
    FIELD_MANAGER,
    GROUP,
    NIGHTLY_FIELD_MANAGER,
    PLURAL,
    VERSION,
)
from neva.drop_folder import DROP_FOLDER_KIND
from neva.kube import APPLY, KUBECONFIG, MERGE, ApiError, ClientTransport, Json, Transport
from neva.spec import KIND

__all__ = ["KUBECONFIG", "ApiError", "ClientTransport", "Json", "KubeApi", "Transport"]

_PAGE = 500


class KubeApi:
    """The calls that the operator makes."""

    def __init__(self, transport: Transport) -> None:
        self._call = transport

    # Custom resources

    def get_job(self, namespace: str, name: str) -> Json | None:
        return self._get(custom_path(namespace, name))

    def list_jobs(self, namespace: str | None) -> Iterator[Json]:
        yield from self._list(custom_path(namespace))

    def write_status(self, job: Json, status: Mapping[str, Any]) -> Json:
        """Apply the status, if the job is still at its resource version."""
        metadata = job["metadata"]
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": job["kind"],
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "status": status,
        }
        path = f"{custom_path(metadata['namespace'], metadata['name'])}/status?{_APPLY_QUERY}"
        return self._call("PATCH", path, body, APPLY)

    def set_finalizers(self, job: Json, finalizers: list[str]) -> Json:
        """Replace the finalizers, if the job is still at its resource version."""
        metadata = job["metadata"]
        body = {
            "metadata": {
                "uid": metadata["uid"],
                "resourceVersion": metadata["resourceVersion"],
                "finalizers": finalizers,
            }
        }
        path = f"{custom_path(metadata['namespace'], metadata['name'])}?{_PATCH_QUERY}"
        return self._call("PATCH", path, body, MERGE)

    def delete_job(self, job: Json) -> None:
        metadata = job["metadata"]
        self._delete(custom_path(metadata["namespace"], metadata["name"]), metadata["uid"])

    # Drop folders

    def create_job(self, body: Json) -> Json:
        """Make a job. ApiError 409: there is one of this name."""
        return self._call("POST", custom_path(body["metadata"]["namespace"]), body, None)

    def list_jobs_labelled(self, namespace: str, selector: str) -> Iterator[Json]:
        yield from self._list(custom_path(namespace), labelSelector=selector)

    def list_drop_folders(self, namespace: str | None) -> Iterator[Json]:
        yield from self._list(_path(f"/apis/{GROUP}/{VERSION}", namespace, DROP_FOLDERS))

    def annotate_job(self, job: Json, annotations: Mapping[str, str]) -> Json:
        """Set annotations, if it is still the same job."""
        metadata = job["metadata"]
        body = {"metadata": {"uid": metadata["uid"], "annotations": dict(annotations)}}
        path = f"{custom_path(metadata['namespace'], metadata['name'])}?{_PATCH_QUERY}"
        return self._call("PATCH", path, body, MERGE)

    def write_folder_status(self, folder: Json, status: Mapping[str, Any]) -> Json:
        """Apply a drop folder's status, if it is still the same folder."""
        metadata = folder["metadata"]
        names = {key: metadata[key] for key in ("name", "namespace", "uid")}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": DROP_FOLDER_KIND,
            "metadata": names,
            "status": status,
        }
        base = f"/apis/{GROUP}/{VERSION}"
        path = _path(base, metadata["namespace"], DROP_FOLDERS, metadata["name"])
        return self._call("PATCH", f"{path}/status?{_APPLY_QUERY}", body, APPLY)

    # Nights

    def write_condition(self, job: Mapping[str, Any], condition: Mapping[str, Any]) -> Json:
        """Apply one condition, which is then the nights' and not the operator's."""
        names = {key: job["metadata"][key] for key in ("name", "namespace", "uid")}
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": KIND,
            "metadata": names,
            "status": {"conditions": [dict(condition)]},
        }
        query = urlencode({"fieldManager": NIGHTLY_FIELD_MANAGER, "force": "true"})
        path = f"{custom_path(names['namespace'], names['name'])}/status?{query}"
        return self._call("PATCH", path, body, APPLY)

    # Children

    def list_children(self, namespace: str | None, selector: str) -> Iterator[Json]:
        yield from self._list(_path("/apis/batch/v1", namespace, "jobs"), labelSelector=selector)

    def list_pods(self, namespace: str | None, selector: str) -> Iterator[Json]:
        yield from self._list(_path("/api/v1", namespace, "pods"), labelSelector=selector)

    def apply_child(self, manifest: Json) -> Json:
        metadata = manifest["metadata"]
        path = _path("/apis/batch/v1", metadata["namespace"], "jobs", metadata["name"])
        return self._call("PATCH", f"{path}?{_APPLY_QUERY}", manifest, APPLY)

    def patch_child(self, namespace: str, name: str, body: Json) -> Json:
        path = _path("/apis/batch/v1", namespace, "jobs", name)
        return self._call("PATCH", f"{path}?{_PATCH_QUERY}", body, MERGE)

    def delete_child(self, namespace: str, name: str, uid: str) -> None:
        self._delete(_path("/apis/batch/v1", namespace, "jobs", name), uid)

    # Events and leases

    def list_events_of(self, namespace: str, uid: str) -> Iterator[Json]:
        yield from self._list(
            _path("/api/v1", namespace, "events"), fieldSelector=f"involvedObject.uid={uid}"
        )

    def create_event(self, event: Json) -> None:
        """Tell an event; one of the same name is the same event."""
        try:
            self._call(
                "POST", _path("/api/v1", event["metadata"]["namespace"], "events"), event, None
            )
        except ApiError as error:
            if error.status != 409:
                raise

    def get_lease(self, namespace: str, name: str) -> Json | None:
        return self._get(_path("/apis/coordination.k8s.io/v1", namespace, "leases", name))

    def create_lease(self, lease: Json) -> Json:
        namespace = lease["metadata"]["namespace"]
        path = _path("/apis/coordination.k8s.io/v1", namespace, "leases")
        return self._call("POST", path, lease, None)

    def replace_lease(self, lease: Json) -> Json:
        metadata = lease["metadata"]
        path = _path(
            "/apis/coordination.k8s.io/v1", metadata["namespace"], "leases", metadata["name"]
        )
        return self._call("PUT", path, lease, None)

    # Helpers

    def _get(self, path: str) -> Json | None:
        try:
            return self._call("GET", path, None, None)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _list(self, path: str, **query: str) -> Iterator[Json]:
        position = None
        while True:
            asked = {**query, "limit": str(_PAGE), **({"continue": position} if position else {})}
            page = self._call("GET", f"{path}?{urlencode(asked)}", None, None)
            yield from page.get("items") or []
            position = (page.get("metadata") or {}).get("continue")
            if not position:
                return

    def _delete(self, path: str, uid: str) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            self._call("DELETE", path, options, None)
        except ApiError as error:
            # Gone, or another of the same name: what was to be deleted is not there any more.
            if error.status not in (404, 409):
                raise


_APPLY_QUERY = urlencode({"fieldManager": FIELD_MANAGER, "force": "true"})
_PATCH_QUERY = urlencode({"fieldManager": FIELD_MANAGER})


def _path(base: str, namespace: str | None, plural: str, name: str | None = None) -> str:
    parts = [base]
    if namespace is not None:
        parts += ["namespaces", quote(namespace)]
    parts += [plural, *([quote(name)] if name is not None else [])]
    return "/".join(parts)


def custom_path(namespace: str | None, name: str | None = None) -> str:
    return _path(f"/apis/{GROUP}/{VERSION}", namespace, PLURAL, name)
