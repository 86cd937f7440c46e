"""The API over HTTP: paths to verbs, watches, and faults."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import yaml
from aiohttp import web

from tests.kube.emulator import discovery, events
from tests.kube.emulator.api import Api, Caller
from tests.kube.emulator.errors import ApiError, bad_request
from tests.kube.emulator.garbage import GarbageCollector
from tests.kube.emulator.requests import Fault, Request, RequestLog
from tests.kube.emulator.resources import Obj, Registry, ResourceType
from tests.kube.emulator.selectors import Matcher, matcher
from tests.kube.emulator.store import Gone, Key
from tests.kube.emulator.tables import table

_MAX_BODY_BYTES = 3 * 1024**2
_APPLY = "application/apply-patch+yaml"
_BOOKMARK_INTERVAL_S = 30.0
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Target(NamedTuple):
    """What a path names."""

    kind: ResourceType
    namespace: str | None
    name: str | None
    subresource: str | None

    @property
    def key(self) -> Key:
        return Key(self.kind.storage_name, self.namespace, self.name or "")


class HttpApi:
    """The request handler; everything it does runs in one event loop.

    Args:
        log_folder: where the kubelet leaves the pods' logs, as NAMESPACE_POD_CONTAINER.log.
    """

    def __init__(self, api: Api, requests: RequestLog, log_folder: Path | None) -> None:
        self._api = api
        self._requests = requests
        self._log_folder = log_folder
        self._garbage = GarbageCollector(api)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_MAX_BODY_BYTES)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        path = http.path.strip("/")
        target = parse_path(self._api.resources, path)
        request = _describe(http, path, target)
        fault = self._requests.add(request)
        if fault is not None and not fault.after:
            return _fail(http, request, fault)
        try:
            response = await self._answer(http, path, target, request)
        except ApiError as error:
            response = _json(error.status(), error.code)
        except Gone as error:
            response = _json(ApiError(410, "Expired", str(error)).status(), 410)
        except (ValueError, yaml.YAMLError) as error:
            response = _json(bad_request(str(error)).status(), 400)
        request.status = response.status
        if self._garbage.has_work:
            asyncio.get_running_loop().call_soon(self._garbage.collect)
        if fault is not None:
            return _fail(http, request, fault)
        return response

    async def _answer(
        self, http: web.Request, path: str, target: Target | None, request: Request
    ) -> web.StreamResponse:
        if target is None:
            if path in ("healthz", "livez", "readyz"):
                return web.Response(text="ok")
            document = discovery.answer(self._api.resources, path)
            if document is None:
                message = "the server could not find the requested resource"
                raise ApiError(404, "NotFound", message)
            return _json(document)
        if request.verb == "watch":
            return await self._watch(http, target)
        if target.subresource == "log":
            return await self._log(http, target)
        if request.verb in ("get", "list"):
            return self._read(http, target)
        raw = await http.read()
        body = _parse(raw, http.content_type)
        body = events.to_core(body) if target.kind.group == "events.k8s.io" else body
        answer, code = self._change(http, target, body, request.verb)
        return _json(_as_asked(target.kind, answer), code)

    # Reading

    def _read(self, http: web.Request, target: Target) -> web.Response:
        kind = target.kind
        if target.name is None:
            return self._list(http, target)
        obj = _as_asked(kind, self._api.get(kind, target.key))
        if _wants_table(http):
            return _json(table(kind, [obj], obj["metadata"]["resourceVersion"]))
        return _json(obj)

    def _list(self, http: web.Request, target: Target) -> web.Response:
        kind = target.kind
        found = [_as_asked(kind, obj) for obj in self._selected(http, target)]
        version = str(self._api.store.version)
        if _wants_table(http):
            return _json(table(kind, found, version))
        return _json(
            {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version,
                "metadata": {"resourceVersion": version},
                "items": found,
            }
        )

    def _selected(self, http: web.Request, target: Target) -> list[Obj]:
        matches = _matcher(http, target)
        objects = self._api.store.all(target.kind.storage_name, target.namespace)
        return [obj for obj in objects if matches(obj)]

    async def _log(self, http: web.Request, target: Target) -> web.StreamResponse:
        pod = self._api.get(target.kind, target.key)
        container = http.query.get("container") or pod["spec"]["containers"][0]["name"]
        file_name = f"{target.namespace}_{target.name}_{container}.log"
        if self._log_folder is None or not (self._log_folder / file_name).exists():
            message = f'container "{container}" in pod "{target.name}" is waiting to start'
            raise bad_request(message)
        path = self._log_folder / file_name
        if http.query.get("follow") == "true":
            return await self._follow_log(http, target, path)
        lines = path.read_bytes().splitlines(keepends=True)
        tail = int(http.query.get("tailLines", len(lines)))
        body = b"".join(lines[-tail:] if tail else [])
        return web.Response(body=body, content_type="text/plain")

    async def _follow_log(
        self, http: web.Request, target: Target, path: Path
    ) -> web.StreamResponse:
        """What is written, until the pod has ended or is gone."""
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(http)
        with path.open("rb") as file:
            while True:
                pod = self._api.store.get(target.key)
                ended = pod is None or pod["status"].get("phase") in ("Succeeded", "Failed")
                if data := file.read():
                    await response.write(data)
                if ended:
                    return response
                await asyncio.sleep(0.05)

    async def _watch(self, http: web.Request, target: Target) -> web.StreamResponse:
        store, kind, query = self._api.store, target.kind, http.query
        matches = _matcher(http, target)
        given = query.get("resourceVersion") or ""
        wants_initial = query.get("sendInitialEvents") == "true"
        version = store.version
        if given not in ("", "0") and not wants_initial:
            version = int(given)
            store.changes_after(version)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(http)
        as_table = _wants_table(http)

        async def send(change_type: str, obj: Obj) -> None:
            shown = _as_asked(kind, obj)
            if as_table and change_type != "BOOKMARK":
                shown = table(kind, [shown], shown["metadata"]["resourceVersion"])
            await response.write(orjson.dumps({"type": change_type, "object": shown}) + b"\n")

        async def bookmark(**annotations: str) -> None:
            metadata = {"resourceVersion": str(version), "annotations": annotations}
            blank = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata}
            await send("BOOKMARK", blank)

        if given in ("", "0") or wants_initial:
            for obj in self._selected(http, target):
                await send("ADDED", obj)
        if wants_initial:
            await bookmark(**{"k8s.io/initial-events-end": "true"})
        ends_s = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        wants_bookmarks = query.get("allowWatchBookmarks") == "true"
        while (left_s := ends_s - time.monotonic()) > 0:
            await store.wait_for_change(version, min(left_s, _BOOKMARK_INTERVAL_S))
            try:
                changes = store.changes_after(version)
            except Gone as error:
                status = ApiError(410, "Expired", str(error)).status()
                line = orjson.dumps({"type": "ERROR", "object": status})
                await response.write(line + b"\n")
                return response
            if not changes and wants_bookmarks:
                await bookmark()
            for change in changes:
                version = change.version
                if change.key.resource != kind.storage_name:
                    continue
                if target.namespace is not None and change.key.namespace != target.namespace:
                    continue
                # A change may bring an object into the selection or out of it.
                was_shown = change.old is not None and matches(change.old)
                if change.type != "DELETED" and matches(change.obj):
                    await send("MODIFIED" if was_shown else "ADDED", change.obj)
                elif was_shown:
                    await send("DELETED", change.obj)
        return response

    # Writing

    def _change(self, http: web.Request, target: Target, body: Any, verb: str) -> tuple[Obj, int]:
        api, (kind, namespace, name, subresource) = self._api, target
        caller = Caller(
            manager=http.query.get("fieldManager")
            or http.headers.get("User-Agent", "").partition("/")[0]
            or "unknown",
            validation=http.query.get("fieldValidation", ""),
            dry_run="All" in http.query.getall("dryRun", []),
            force=http.query.get("force") == "true",
        )
        if kind.plural == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self._requests.denied
            return {**body, "status": {"allowed": allowed}}, 201
        if verb == "deletecollection":
            for obj in self._selected(http, target):
                key = Key(kind.storage_name, namespace, obj["metadata"]["name"])
                api.delete(kind, key, body)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}, 200
        if verb == "create" and name is None:
            return api.create(kind, namespace, body, caller), 201
        if verb == "create" and subresource == "binding":
            node = {"spec": {"nodeName": body["target"]["name"]}}
            api.patch(kind, target.key, node, "application/merge-patch+json", caller, None)
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}, 201
        if verb == "create" and subresource == "eviction":
            api.delete(kind, target.key, body.get("deleteOptions"))
            return {"kind": "Status", "apiVersion": "v1", "status": "Success"}, 201
        if verb == "delete":
            options = dict(body or {})
            for given in ("propagationPolicy", "gracePeriodSeconds"):
                if given in http.query:
                    options[given] = http.query[given]
            return api.delete(kind, target.key, options, caller.dry_run), 200
        if subresource not in (None, "status"):
            raise ApiError(405, "MethodNotAllowed", f"no {verb} of {kind.plural}/{subresource}")
        if verb == "update":
            if "dry_run" in body:
                raise bad_request("no such field: dry_run")
            return api.replace(kind, target.key, body, caller, subresource), 200
        if http.content_type == _APPLY:
            if "fieldManager" not in http.query:
                raise bad_request("fieldManager is required for apply patch")
            obj, is_new = api.apply(kind, target.key, body, caller, subresource)
            return obj, 201 if is_new else 200
        return api.patch(kind, target.key, body, http.content_type, caller, subresource), 200


def parse_path(resources: Registry, path: str) -> Target | None:
    """What `path` (without its slashes) names; None for discovery and the like."""
    parts = path.split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    kind = resources.find(group, version, rest[0])
    if kind is None:
        return None
    name = rest[1] if len(rest) > 1 else None
    return Target(kind, namespace, name, "/".join(rest[2:]) or None)


def _describe(http: web.Request, path: str, target: Target | None) -> Request:
    token = http.headers.get("Authorization", "").removeprefix("Bearer ")
    request = Request(
        verb=http.method.lower(),
        path=f"/{path}",
        query=dict(http.query),
        user=token or "anonymous",
        user_agent=http.headers.get("User-Agent", ""),
        content_type=http.content_type,
        at_s=time.monotonic(),
    )
    if target is not None:
        request.group, request.resource = target.kind.group, target.kind.plural
        request.namespace, request.name = target.namespace, target.name
        request.subresource = target.subresource or ""
        request.verb = _verb(http, target)
    return request


def _verb(http: web.Request, target: Target) -> str:
    if http.method == "GET":
        if http.query.get("watch", "").lower() in ("true", "1"):
            return "watch"
        return "get" if target.name else "list"
    if http.method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(http.method, "unknown")


def _matcher(http: web.Request, target: Target) -> Matcher:
    selected = matcher(http.query.get("labelSelector"), http.query.get("fieldSelector"))
    if target.name is None:
        return selected
    return lambda obj: obj["metadata"]["name"] == target.name and selected(obj)


def _wants_table(http: web.Request) -> bool:
    return "as=Table" in http.headers.get("Accept", "")


def _as_asked(kind: ResourceType, obj: Obj) -> Obj:
    """Events are one thing in two groups."""
    if kind.group == "events.k8s.io":
        return events.from_core(obj)
    return obj


def _parse(raw: bytes, content_type: str) -> Any:
    if not raw:
        return None
    if content_type == "application/vnd.kubernetes.protobuf":
        raise ApiError(415, "UnsupportedMediaType", "protobuf is not spoken here")
    return yaml.safe_load(raw) if "yaml" in content_type else orjson.loads(raw)


def _fail(http: web.Request, request: Request, fault: Fault) -> web.Response:
    if fault.status is None:
        request.status = 0
        if http.transport is not None:
            http.transport.abort()
        return web.Response(status=500)
    request.status = fault.status
    reason = _REASONS.get(fault.status, "InternalError")
    response = _json(ApiError(fault.status, reason, "told so").status(), fault.status)
    if fault.status == 429:
        response.headers["Retry-After"] = "1"
    return response


def _json(document: Obj, code: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(document), status=code, content_type="application/json")
