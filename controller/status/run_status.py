"""What the facts of a run mean: its phase, rate, time left and what to do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from controller.status.facts import Facts
from controller.summary import FAILED
from neva.ledger import layout
from neva.ledger.control import Order

# Longer than a lease, a flush and several beats; a model that loads may take longer.
SILENT_S = 60.0


class RunPhase(StrEnum):
    """Where a run is in its course: `Phase` of a VideoNevaJob, and what a ledger alone can tell."""

    PREPARING = "Preparing"
    RUNNING = "Running"
    INTERRUPTED = "Interrupted"  # as it seems: nobody has written for a while
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    FINISHING = "Finishing"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"

    @property
    def is_final(self) -> bool:
        return self in (RunPhase.CANCELLED, RunPhase.SUCCEEDED, RunPhase.FAILED)


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run for people and programs.

    Attributes:
        eta_s: least and most time left: by the rate of the last minutes, and of their later half.
        silent_s: since the last write of anybody who works on the run; None: not known.
        judge: how far the judge is; None: none was asked for.
        advice: what to do; "": nothing.
    """

    facts: Facts
    phase: RunPhase
    silent_s: float | None
    rows_per_s: float | None
    eta_s: tuple[float, float] | None
    judge: str | None
    advice: str

    @property
    def name(self) -> str:
        manifest = self.facts.manifest
        return manifest.job["metadata"]["name"] if manifest else self.facts.uri

    @property
    def num_rows(self) -> int:
        return self.facts.manifest.num_rows if self.facts.manifest else 0

    @property
    def files(self) -> dict[str, str]:
        """What there is to read of a run that is over: URIs by name."""
        summary = self.facts.summary
        if not self.phase.is_final or (summary is None and not self.facts.refused):
            return {}
        names = {"errors": layout.ERRORS} if self.facts.num_failed or self.facts.refused else {}
        if self.phase is RunPhase.CANCELLED:
            names = {"partial": layout.PARTIAL, **names}
        elif summary is not None:
            names = {"outputs": layout.OUTPUTS, **names, "report": layout.REPORT}
        return {name: f"{self.facts.uri}{key}" for name, key in names.items()}

    @property
    def num_shards(self) -> int:
        return len(self.facts.manifest.shards) if self.facts.manifest else 0


def run_status(facts: Facts) -> RunStatus:
    """Decide. The same facts give the same status."""
    silent_s = None
    if facts.now_s is not None and facts.last_write_s is not None:
        silent_s = max(0.0, facts.now_s - facts.last_write_s)
    phase = _phase(facts, silent_s)
    rate = None
    if phase is RunPhase.RUNNING and facts.recent and facts.recent_s:
        rate = facts.recent / facts.recent_s
    eta_s = _eta_s(facts, rate)
    return RunStatus(
        facts, phase, silent_s, rate, eta_s, _judge(facts, phase), _advice(facts, phase)
    )


def _eta_s(facts: Facts, rate: float | None) -> tuple[float, float] | None:
    if not rate or facts.recent_s is None or facts.manifest is None:
        return None
    left = facts.manifest.num_rows - facts.num_done
    rates = [rate, *([2 * facts.recent_late / facts.recent_s] if facts.recent_late else [])]
    return left / max(rates), left / min(rates)


def _phase(facts: Facts, silent_s: float | None) -> RunPhase:
    if facts.succeeded:
        return RunPhase.SUCCEEDED
    if facts.order is Order.CANCEL:
        return RunPhase.CANCELLED
    if facts.refused or (facts.summary is not None and facts.summary["state"] == FAILED):
        return RunPhase.FAILED
    if facts.order is Order.SUSPEND:
        return RunPhase.SUSPENDED
    if facts.runner_gone or (silent_s is not None and silent_s > SILENT_S):
        return RunPhase.INTERRUPTED
    if facts.manifest is None:
        return RunPhase.PREPARING
    if facts.num_committed == len(facts.manifest.shards):
        return RunPhase.FINISHING
    return RunPhase.RUNNING


def _judge(facts: Facts, phase: RunPhase) -> str | None:
    if facts.manifest is None or facts.manifest.job["spec"].get("judge") is None:
        return None
    if facts.judge is not None:
        judged, questions = facts.judge.get("num_judged"), facts.judge.get("num_questions")
        relative = (facts.judge.get("all") or {}).get("relative")
        score = "" if relative is None else f", score {relative:.1f}"
        return f"judged {judged} of {questions}{score}"
    if facts.judging:
        return "judging"
    return "not judged" if phase.is_final else "after the answers"


def _advice(facts: Facts, phase: RunPhase) -> str:
    uri = facts.uri
    if phase is RunPhase.SUSPENDED:
        return f"`neva resume {uri}` lifts that"
    if phase is RunPhase.CANCELLED:
        return "finished rows are in partial.jsonl and errors.jsonl"
    if phase is RunPhase.INTERRUPTED:
        return (
            "`neva run` with its job file goes on, or the same `neva evaluate`; "
            f"`neva logs {uri}` shows what its worker said"
        )
    if phase is RunPhase.FAILED and facts.refused:
        return "too many rows are bad, see errors.jsonl; nothing was started"
    if phase.is_final and facts.num_failed:
        return f"`neva retry {uri}` asks the failed rows again"
    return ""


def as_dict(status: RunStatus) -> dict[str, Any]:
    """For `-o json|yaml`, in the words of a VideoNevaJob's status."""
    facts = status.facts
    return {
        "name": status.name,
        "output": facts.uri,
        "phase": status.phase.value,
        "runId": facts.manifest.run_id if facts.manifest else None,
        "rows": {"total": status.num_rows, "done": facts.num_done, "failed": facts.num_failed},
        "shards": {
            "total": status.num_shards,
            "done": facts.num_committed,
            "working": facts.num_working,
        },
        "failedByReason": facts.failed_by_reason,
        "rowsPerSecond": None if status.rows_per_s is None else round(status.rows_per_s, 2),
        "etaSeconds": None if status.eta_s is None else [round(end) for end in status.eta_s],
        "silentSeconds": None if status.silent_s is None else round(status.silent_s, 1),
        "judge": status.judge,
        "files": status.files,
        "advice": status.advice or None,
    }
