"""The API server's refusals, as the Status objects that clients get."""

from __future__ import annotations

from typing import Any

from tests.kube.emulator.resources import Obj, ResourceType


class ApiError(Exception):
    """A request that is answered with a failure."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def status(self) -> Obj:
        status: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def not_found(kind: ResourceType, name: str) -> ApiError:
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return ApiError(404, "NotFound", f'{resource} "{name}" not found', details)


def conflict(kind: ResourceType, name: str, why: str) -> ApiError:
    resource = f"{kind.plural}.{kind.group}" if kind.group else kind.plural
    return ApiError(409, "Conflict", f'Operation cannot be fulfilled on {resource} "{name}": {why}')


def stale(kind: ResourceType, name: str) -> ApiError:
    return conflict(
        kind,
        name,
        "the object has been modified; please apply your changes to the latest version",
    )


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def invalid(kind: ResourceType, name: str, causes: list[dict[str, str]]) -> ApiError:
    """422 with one cause per wrong field: {reason, message, field}."""
    told = [f"{cause['field']}: {cause['message']}" for cause in causes]
    words = told[0] if len(told) == 1 else f"[{', '.join(told)}]"
    details = {"name": name, "group": kind.group, "kind": kind.kind, "causes": causes}
    message = f'{kind.qualified_kind} "{name}" is invalid: {words}'
    return ApiError(422, "Invalid", message, details)
