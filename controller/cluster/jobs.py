"""A user's hands on the jobs of a cluster: read, list, suspend, create, apply."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from controller.operator.api import ClientTransport, KubeApi, custom_path
from neva.errors import ConfigError
from neva.kube import APPLY, MERGE, ApiError, Json, own_namespace
from neva.targets import JobOnCluster, find_job

USER_FIELD_MANAGER = "neva"


class UsersCluster:
    """The cluster that kubectl would ask here.

    Attributes:
        namespace: where jobs are that name no other.

    Raises ConfigError when there is no access to a cluster; its methods ApiError.
    """

    def __init__(self, namespace: str | None = None) -> None:
        self.transport = ClientTransport.of_user()
        self.namespace = namespace or own_namespace()
        self.api = KubeApi(self.transport)

    def job(self, job: JobOnCluster) -> Json:
        """Raises ConfigError when there is none."""
        return find_job(self.transport, job, job.namespace or self.namespace)

    def find(self, namespace: str, name: str) -> Json | None:
        """The job; None when there is none."""
        return self.api.get_job(namespace, name)

    def table(self, *, everywhere: bool) -> Json:
        """kubectl's columns of the jobs in this namespace, or in all."""
        return self.transport.get_table(custom_path(None if everywhere else self.namespace))

    def jobs(self, *, everywhere: bool) -> list[Json]:
        return list(self.api.list_jobs(None if everywhere else self.namespace))

    def set_suspend(self, body: Json, suspend: bool) -> Json:
        """Set spec.suspend, if it is still the same job."""
        metadata = body["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "spec": {"suspend": suspend}}
        query = urlencode({"fieldManager": USER_FIELD_MANAGER})
        path = f"{custom_path(metadata['namespace'], metadata['name'])}?{query}"
        return self.transport("PATCH", path, patch, MERGE)

    def create(self, body: dict[str, Any]) -> Json:
        """Make a job in its namespace.

        Raises:
            ConfigError: there is one of this name.
        """
        metadata = {"namespace": self.namespace, **body["metadata"]}
        try:
            return self.api.create_job({**body, "metadata": metadata})
        except ApiError as error:
            if error.status != 409:
                raise
            raise ConfigError(
                f"there is a job {metadata['name']} in the namespace {metadata['namespace']} "
                "already; delete it, or give this one another name"
            ) from error

    def apply(self, body: Json, *, force: bool) -> Json:
        """Server-side apply of a job that has a namespace; returns it as it is now.

        Args:
            force: fields that another manager has set are taken over; without it ApiError 409.
        """
        metadata = body["metadata"]
        query = {"fieldManager": USER_FIELD_MANAGER, **({"force": "true"} if force else {})}
        path = f"{custom_path(metadata['namespace'], metadata['name'])}?{urlencode(query)}"
        return self.transport("PATCH", path, body, APPLY)
