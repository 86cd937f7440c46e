"""The cluster as `nightly` reaches it: the operator's API calls, and a watch of one job."""

from __future__ import annotations

from typing import Any

import kubernetes
import urllib3
from kubernetes.client.exceptions import ApiException

from controller.nightly.night import Json, phase_of
from controller.operator.api import ApiError, ClientTransport, KubeApi
from controller.operator.names import GROUP, PLURAL, VERSION
from neva.kube import own_namespace

WATCH_S = 60  # a watch that hears nothing is opened anew


class JobWatch:
    """Returns when the job has ended or is gone, or after WATCH_S. Raises ApiError."""

    def __init__(self, client: kubernetes.client.ApiClient, timeout_s: int = WATCH_S) -> None:
        self._custom = kubernetes.client.CustomObjectsApi(client)
        self._timeout_s = timeout_s

    def __call__(self, job: Json) -> None:
        metadata = job["metadata"]
        stream = _new_watch()
        try:
            events = stream.stream(
                self._custom.list_namespaced_custom_object,
                GROUP,
                VERSION,
                metadata["namespace"],
                PLURAL,
                field_selector=f"metadata.name={metadata['name']}",
                resource_version=metadata["resourceVersion"],
                timeout_seconds=self._timeout_s,
                _request_timeout=(5, self._timeout_s + 15),
            )
            for event in events:
                if event["type"] == "DELETED" or phase_of(event["object"]).is_final:
                    return
        except ApiException as error:
            raise ApiError(int(error.status or 0), str(error.reason)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ApiError(0, f"watching {metadata['name']}: {error}") from error
        finally:
            stream.stop()


def _new_watch() -> Any:
    watch: Any = kubernetes.watch.Watch  # it has no types
    return watch()


def connect() -> tuple[KubeApi, JobWatch, str]:
    """API, watch and the namespace that nothing else names.

    Raises:
        ConfigError: there is no access to a cluster.
    """
    transport = ClientTransport.of_user()
    return KubeApi(transport), JobWatch(transport.client), own_namespace()
