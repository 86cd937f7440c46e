"""What was asked of the API server, and what shall go wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Request:
    """One request, in the words of RBAC.

    Attributes:
        verb: get, list, watch, create, update, patch, delete or deletecollection; for paths that
            are no resources, the HTTP method in lower case.
        user: whose token it carried ("anonymous" without one).
        at_s: time.monotonic() of its arrival.
        status: HTTP status of the answer; 0 while there is none, or when the connection was cut.
    """

    verb: str
    path: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str | None = None
    name: str | None = None
    user: str = "anonymous"
    user_agent: str = ""
    content_type: str = ""
    at_s: float = 0.0
    status: int = 0
    query: dict[str, str] = field(default_factory=dict)

    @property
    def is_write(self) -> bool:
        return self.verb in ("create", "update", "patch", "delete", "deletecollection")


@dataclass
class Fault:
    """What happens to the `nth` request (counted from 1) that `matches`, and the `times - 1` after.

    Attributes:
        status: answer with this HTTP status; None cuts the connection without an answer.
        after: do what was asked first.
    """

    matches: Callable[[Request], bool]
    nth: int = 1
    times: int = 1
    status: int | None = None
    after: bool = False
    seen: int = field(default=0, init=False)

    def takes(self, request: Request) -> bool:
        """Count `request` if it matches; whether it is to fail."""
        if not self.matches(request):
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times

    @property
    def used_up(self) -> bool:
        return self.seen >= self.nth + self.times - 1


class RequestLog:
    """All requests in the order of their arrival, and the faults to come.

    Attributes:
        denied: (verb, resource): what a SelfSubjectAccessReview says may not be done.
    """

    def __init__(self) -> None:
        self.denied: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._requests: list[Request] = []
        self._faults: list[Fault] = []

    def add(self, request: Request) -> Fault | None:
        """Note a request; returns the fault that it meets."""
        with self._lock:
            self._requests.append(request)
            # Every fault counts every request, whichever one it meets.
            taken = [fault for fault in self._faults if fault.takes(request)]
        return taken[0] if taken else None

    def break_requests(self, fault: Fault) -> Fault:
        """Arrange a fault; it may be read for what it has `seen`."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()

    def all(self, matches: Callable[[Request], bool] = lambda _: True) -> list[Request]:
        """The requests so far that match."""
        with self._lock:
            return [request for request in self._requests if matches(request)]

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()
