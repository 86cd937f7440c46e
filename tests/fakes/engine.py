"""An engine that answers from a function, and dies when told; stands in for `EngineClient`."""

from __future__ import annotations

from collections.abc import Callable

from worker.engine.client import EngineLost
from worker.engine.protocol import (
    EngineStatus,
    GenerateRequest,
    GenerateResult,
    Outcome,
)

STATUS = EngineStatus("g", 0, 0, 8, 512, 1, 1, "fp32", "cpu", 0, 0, 0, 0)


class FakeEngine:
    """Answers each request on the second `poll` after it.

    Attributes:
        kills: request ids that end the engine when it works on them.
        batches: the request ids that were in the engine together, at each poll.
    """

    def __init__(
        self,
        answer: Callable[[GenerateRequest], Outcome] | None = None,
        kills: set[str] | None = None,
        num_deaths: int = 1 << 30,
    ) -> None:
        self.answer = answer or (lambda r: GenerateResult(r.request_id, (1, 2), "stop"))
        self.kills = kills or set()
        self.num_deaths = num_deaths
        self.batches: list[list[str]] = []
        self._held: dict[str, GenerateRequest] = {}
        self._absent_for = 0

    def submit(self, request: GenerateRequest) -> None:
        self._held[request.request_id] = request

    def poll(self, timeout_s: float) -> list[Outcome]:
        if not self._held:
            return []
        self.batches.append(sorted(self._held))
        if self.num_deaths and self.kills & self._held.keys():
            self.num_deaths -= 1
            self._held.clear()
            self._absent_for = 2
            raise EngineLost("the engine died")
        if timeout_s == 0:
            return []
        held, self._held = self._held, {}
        return [self.answer(request) for request in held.values()]

    def status(self, timeout_s: float) -> EngineStatus:
        if self._absent_for:
            self._absent_for -= 1
            raise EngineLost("not there yet")
        return STATUS
