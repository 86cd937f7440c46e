"""A run's status in words for people."""

from __future__ import annotations

from collections.abc import Iterator

from controller.status.run_status import RunPhase, RunStatus
from neva.rate import duration, time_left


def headline(status: RunStatus) -> str:
    """One line, which changes only when the run does."""
    facts = status.facts
    words = f"{status.name}: {status.phase}{'?' if _is_a_guess(status) else ''}"
    if facts.manifest is not None:
        words += f", {facts.num_done} of {status.num_rows} rows done, {facts.num_failed} failed"
    return words


def lines(status: RunStatus) -> Iterator[str]:
    """All there is to say."""
    facts = status.facts
    yield headline(status)
    if facts.manifest is not None and facts.num_committed == status.num_shards:
        yield f"  shards   {status.num_shards} of {status.num_shards} committed"
    elif facts.manifest is not None:
        left = status.num_shards - facts.num_committed - facts.num_working
        yield (
            f"  shards   {facts.num_committed} of {status.num_shards} committed, "
            f"{facts.num_working} in work, {left} open"
        )
    if facts.failed_by_reason:
        counts = (f"{number} {reason}" for reason, number in facts.failed_by_reason.items())
        yield f"  failed   {', '.join(counts)}"
    if facts.manifest is not None and facts.manifest.num_kept:
        of = facts.manifest.job["spec"].get("retryOf")
        yield f"  kept     {facts.manifest.num_kept} answers of {of}"
    if status.rows_per_s is not None and status.eta_s is not None:
        yield f"  rate     {status.rows_per_s:.1f} rows/s, {time_left(status.eta_s)}"
    if status.judge is not None:
        yield f"  judge    {status.judge}"
    for name, uri in status.files.items():
        yield f"  {name:<8} {uri}"
    if (said := sign_of_life(status)) is not None:
        yield f"  {said}"
    if status.advice:
        yield f"  {status.advice}"


def _is_a_guess(status: RunStatus) -> bool:
    return status.phase is RunPhase.INTERRUPTED and not status.facts.runner_gone


def sign_of_life(status: RunStatus) -> str | None:
    """When somebody last wrote; None: it is over, or the store does not tell."""
    if status.phase.is_final or status.silent_s is None:
        return None
    ago = duration(status.silent_s)
    if status.phase is RunPhase.INTERRUPTED:
        if status.facts.runner_gone:
            return f"{status.facts.runner} is gone; the last write was {ago} ago"
        return f"nobody has written for {ago}"
    return f"last sign of life {ago} ago"
