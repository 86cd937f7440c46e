"""kopf's part: it watches, and every event goes into the world. It never writes anything.

With event handlers only, kopf puts neither finalizers nor annotations on anything, and with the
scanning off it needs no rights on resource definitions and namespaces. It can't select by label on
the server's side: cluster-wide, every Job and pod passes through here, and most are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import kopf

from controller.operator.names import (
    DROP_FOLDERS,
    GROUP,
    LABEL_JOB,
    LABEL_MANAGED_BY,
    MANAGER,
    PLURAL,
    VERSION,
)
from controller.operator.world import World
from neva.kube import KUBECONFIG

Put = Callable[..., None]

_SERVER_TIMEOUT_S = 600.0
_SILENCE_S = 150.0  # a server sends a bookmark every minute: a stream that silent is dead
_PAGE = 500


async def watch(
    world: World,
    put_drop_folder: Put,
    *,
    namespaces: Sequence[str],
    kueue: bool,
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Watch until `stop`, in the given namespaces or, with none, in the whole cluster."""
    for name in ("kopf", "kopf.objects", "kopf.activities"):
        logging.getLogger(name).setLevel(logging.WARNING)
    await kopf.operator(
        registry=_registry(world, put_drop_folder, kueue),
        settings=_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
        stop_flag=stop,
        ready_flag=ready,
    )


def _settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.watching.server_timeout = _SERVER_TIMEOUT_S
    settings.watching.inactivity_timeout = _SILENCE_S
    settings.watching.chunk_size = _PAGE
    return settings


def _registry(world: World, put_drop_folder: Put, kueue: bool) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()
    labels: dict[str, Any] = {LABEL_MANAGED_BY: MANAGER, LABEL_JOB: kopf.PRESENT}

    def login(**kwargs: Any) -> Any:
        # As the client of `api` does it.
        if KUBECONFIG in os.environ:
            return kopf.login_with_kubeconfig(**kwargs)
        return kopf.login_with_service_account(**kwargs)

    kopf.on.login(registry=registry)(login)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(_into(world.put_job))
    kopf.on.event(GROUP, VERSION, DROP_FOLDERS, registry=registry)(_into(put_drop_folder))
    kopf.on.event("batch", "v1", "jobs", labels=labels, registry=registry)(_into(world.put_child))
    kopf.on.event("", "v1", "pods", labels=labels, registry=registry)(_into(world.put_pod))
    if kueue:
        kopf.on.event("kueue.x-k8s.io", "workloads", registry=registry)(_into(world.put_workload))
    return registry


def _into(put: Put) -> Any:
    async def handler(event: Any, **_: Any) -> None:
        # kopf freezes nothing and reuses nothing: the object is ours to keep.
        put(dict(event["object"]), deleted=event["type"] == "DELETED")

    return handler
